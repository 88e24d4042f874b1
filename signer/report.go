package signer

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/mintmark/mintmark/hsm"
)

// SignStatement signs a text about the keys (an audit report, a ceremony's transcript) with
// the active audit-report key, and gives it as a signed note (https://c2sp.org/signed-note)
// under name: the text, an empty line, and one signature line of type 0x02, ECDSA over
// SHA-256 of the text, as checkpoints have it. It gives the public key's SPKI with it.
//
// It takes no ticket, as SignCheckpoint takes none: a statement is about the record. Whoever
// makes one puts its digest on record.
func (g *Gate) SignStatement(ctx context.Context, name, text string) (note string, spki []byte, err error) {
	control := func(r rune) bool { return r < ' ' && r != '\n' || r == utf8.RuneError }
	if !strings.HasSuffix(text, "\n") || strings.Contains(text, "\n\n") || strings.ContainsFunc(text, control) || name == "" || strings.ContainsAny(name, " +\n") {
		return "", nil, errors.New("sign statement: a note's text is whole lines of UTF-8 without control characters, none of them empty; its name has no blank or plus")
	}
	digest := sha256.Sum256([]byte(text))
	signature, err := withActive(g, hsm.AuditReport, func(key hsm.Key) ([]byte, error) {
		pub, err := g.keys.Public(key.Name)
		if err != nil {
			return nil, err
		}
		if spki, err = x509.MarshalPKIXPublicKey(pub); err != nil {
			return nil, fmt.Errorf("encode report key: %w", err)
		}
		return g.keys.Sign(ctx, key.Name, digest[:], crypto.SHA256)
	})
	if err != nil {
		return "", nil, fmt.Errorf("sign statement: %w", err)
	}
	id := sha256.Sum256(spki)
	line := binary.BigEndian.AppendUint32(nil, binary.BigEndian.Uint32(id[:4]))
	return text + "\n— " + name + " " + base64.StdEncoding.EncodeToString(append(line, signature...)) + "\n", spki, nil
}
