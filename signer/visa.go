package signer

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// Layout says how clear text becomes whole cipher blocks of a Visa message.
type Layout string

// The layouts.
const (
	// Bare is the clear text alone, whose length must be a multiple of eight. [A] for a PAN
	// of 16 digits: the published sample of a Visa card has exactly 56 bytes.
	Bare Layout = "bare"
	// Framed is two spaces, four random printable characters, the clear text's length in
	// decimal digits, the clear text, and '!' up to a multiple of eight. [B]: one public
	// source; the published sample of a V Pay card has the 64 bytes that come of it.
	Framed Layout = "framed"
)

// visaKeySet is the form of a key set identifier: six digits and an index.
var visaKeySet = regexp.MustCompile(`^[0-9]{6}\.[0-9]{1,3}$`)

// CheckVisaKeySet reports whether s has the form of a key set identifier, such as 426064.1.
func CheckVisaKeySet(s string) bool { return visaKeySet.MatchString(s) }

// PANBlock is what an encrypted primary account number is made of.
type PANBlock struct {
	KeySet string // the network's name of the zone key
	Layout Layout
	PAN    secret.PAN
	Expiry secret.Text // MMYY
	At     time.Time
}

// SealPANBlock encrypts a PAN under the network's zone key: the ASCII text
// MBPAD-1-FK-<key set>--TDEA-<HEX> over pan=…;expiry=MMYY;datetime=yyyyMMddHHmmss (UTC),
// triple DES in CBC mode with an IV of zeroes in the token. The form is [A]; its place in
// the payload is Base64 of the text.
func (g *Gate) SealPANBlock(ctx context.Context, t *record.Ticket, b PANBlock) ([]byte, error) {
	ctx, at := span.Start(ctx, "gate.seal-pan-block")
	defer at.End()
	if err := t.Use(record.SignCard, "pan-block"); err != nil {
		return nil, err
	}
	clear := make([]byte, 0, 80)
	b.PAN.Reveal(func(pan []byte) { clear = append(append(clear, "pan="...), pan...) })
	b.Expiry.Reveal(func(mmyy []byte) { clear = append(append(clear, ";expiry="...), mmyy...) })
	clear = append(clear, ";datetime="+b.At.UTC().Format("20060102150405")...)
	defer secret.Wipe(clear)
	return g.visa(ctx, "MBPAD", b.KeySet, b.Layout, clear)
}

// VisaCode is what an activation code is made of.
type VisaCode struct {
	KeySet string
	Nonce  string // hex
}

// MakeVisaCode makes Visa's activation data: MBPAC-1-FK-<key set>--TDEA-<HEX> over
// nonce=<hex>;authcode=<six of A-Z0-9>. The form is [A]. The frame is [C]: the clear text of
// a four-byte nonce is no whole number of blocks, so that it cannot be bare.
func (g *Gate) MakeVisaCode(ctx context.Context, t *record.Ticket, c VisaCode) (record.Held[[]byte], error) {
	ctx, at := span.Start(ctx, "gate.make-visa-code")
	defer at.End()
	var none record.Held[[]byte]
	if err := useFor(t, "visa-code", record.SignCard, record.ActivationData); err != nil {
		return none, err
	}
	clear := []byte("nonce=" + c.Nonce + ";authcode=" + randomOf(authcodeAlphabet, 6))
	defer secret.Wipe(clear)
	out, err := g.visa(ctx, "MBPAC", c.KeySet, Framed, clear)
	if err != nil {
		return none, err
	}
	return record.Hold(t, "activationData", out, out), nil
}

// visa gives type-version-keyscheme-keyset-ephemeralkey-algorithm-information, of which the
// ephemeral key is blank.
func (g *Gate) visa(ctx context.Context, kind, keySet string, l Layout, clear []byte) ([]byte, error) {
	blocks, err := l.blocks(clear)
	defer secret.Wipe(blocks)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", kind, err)
	}
	var known string
	sealed, err := withActive(g, hsm.VisaZone, func(key hsm.Key) ([]byte, error) {
		known = cmp.Or(key.Alias, keySet)
		if !visaKeySet.MatchString(known) {
			return nil, errors.New("key set identifier is not six digits, a dot and an index")
		}
		return g.keys.EncryptTDEA(ctx, key.Name, blocks)
	})
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", kind, err)
	}
	return []byte(kind + "-1-FK-" + known + "--TDEA-" + strings.ToUpper(hex.EncodeToString(sealed))), nil
}

// blocks gives the clear text as whole blocks, in memory of its own.
func (l Layout) blocks(clear []byte) ([]byte, error) {
	if l == Bare {
		if len(clear)%8 != 0 {
			return nil, fmt.Errorf("%d bytes are no whole number of blocks, and the layout is bare", len(clear))
		}
		return append([]byte(nil), clear...), nil
	}
	if l != Framed {
		return nil, fmt.Errorf("layout %q is not known", l)
	}
	b := make([]byte, 0, len(clear)+16)
	b = append(b, "  "+randomOf(printable, 4)+strconv.Itoa(len(clear))...)
	b = append(b, clear...)
	for len(b)%8 != 0 {
		b = append(b, '!')
	}
	return b, nil
}

const (
	authcodeAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	printable        = authcodeAlphabet + "abcdefghijklmnopqrstuvwxyz"
)

// randomOf gives n characters of an alphabet, each equally likely.
func randomOf(alphabet string, n int) string {
	out := make([]byte, 0, n)
	limit := 256 - 256%len(alphabet)
	var b [1]byte
	for len(out) < n {
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		if int(b[0]) < limit {
			out = append(out, alphabet[int(b[0])%len(alphabet)])
		}
	}
	return string(out)
}
