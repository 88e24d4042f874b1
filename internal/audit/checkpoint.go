package audit

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Checkpoint is a signed statement of the log's size and root at a time: a signed note
// (https://c2sp.org/signed-note) in the form of https://c2sp.org/tlog-checkpoint,
//
//	bank.example/mintmark/production
//	20852163
//	CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//
//	— bank.example/mintmark/production Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDe…
//
// with one signature line of type 0x02, ECDSA over P-256 and SHA-256, whose key id is
// the first four bytes of the SHA-256 of the public key's SPKI. The signed text is the
// three lines with their ends, so that openssl can verify it too (docs/audit.md).
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   tlog.Hash
	At     time.Time // when it was made; for readers, not signed
	SPKI   []byte    // the key's public half, DER; for readers, who know which key to trust
	Note   string    // the whole signed note
}

// checkpointJSON is a checkpoint as anchors and exports have it, one line each.
type checkpointJSON struct {
	Origin string `json:"origin"`
	Size   uint64 `json:"size"`
	Root   string `json:"root"` // Base64, as in the note
	At     string `json:"at"`   // RFC 3339
	SPKI   []byte `json:"spki"`
	Note   string `json:"checkpoint"`
}

// MarshalJSON gives the line of anchors and exports.
func (c Checkpoint) MarshalJSON() ([]byte, error) {
	return json.Marshal(checkpointJSON{c.Origin, c.Size, c.Root.String(), c.At.UTC().Format(time.RFC3339Nano), c.SPKI, c.Note})
}

// UnmarshalJSON reads that line. What it says beside the note is not believed: it must
// be what the note says.
func (c *Checkpoint) UnmarshalJSON(b []byte) error {
	var j checkpointJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	got, err := ParseCheckpoint(j.Note)
	if err != nil {
		return err
	}
	got.SPKI = j.SPKI
	if got.At, err = time.Parse(time.RFC3339Nano, j.At); err != nil {
		return errors.New("checkpoint without a time")
	}
	if got.Origin != j.Origin || got.Size != j.Size || got.Root.String() != j.Root {
		return fmt.Errorf("checkpoint %d: the note says something else than its line", got.Size)
	}
	*c = got
	return nil
}

func checkpointText(origin string, t *Tree) string {
	return fmt.Sprintf("%s\n%d\n%s\n", origin, t.Size(), t.Root())
}

// ParseCheckpoint reads a note's text. It does not verify the signature; Verify does.
func ParseCheckpoint(text string) (Checkpoint, error) {
	c := Checkpoint{Note: text}
	body, _, found := strings.Cut(text, "\n\n")
	lines := strings.Split(body, "\n")
	if !found || len(lines) != 3 || lines[0] == "" {
		return c, errors.New("no checkpoint: a signed note of origin, size and root is expected")
	}
	size, err := strconv.ParseUint(lines[1], 10, 62)
	if err != nil || strconv.FormatUint(size, 10) != lines[1] {
		return c, errors.New("no checkpoint: the second line is no size")
	}
	c.Origin, c.Size = lines[0], size
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return c, errors.New("no checkpoint: the third line is no root")
	}
	return c, nil
}

// Signer signs checkpoints with the active audit-checkpoint key.
type Signer interface {
	// SignCheckpoint gives an ECDSA signature (ASN.1) over the SHA-256 of text, and the
	// P-256 public key that verifies it, as SPKI. A signature that comes back has been
	// verified. It is not called twice at once.
	SignCheckpoint(ctx context.Context, text []byte) (signature, spki []byte, err error)
}

// sign makes a tree's checkpoint.
func sign(ctx context.Context, s Signer, origin string, t *Tree, at time.Time) (Checkpoint, error) {
	text := checkpointText(origin, t)
	sig, spki, err := s.SignCheckpoint(ctx, []byte(text))
	if err != nil {
		return Checkpoint{}, err
	}
	key, err := NewCheckpointKey(origin, spki)
	if err != nil {
		return Checkpoint{}, err
	}
	line := binary.BigEndian.AppendUint32(nil, key.KeyHash())
	signed := text + "\n— " + origin + " " + base64.StdEncoding.EncodeToString(append(line, sig...)) + "\n"
	c := Checkpoint{Origin: origin, Size: t.Size(), Root: t.Root(), At: at, SPKI: spki, Note: signed}
	return c, c.Verify(key)
}

// CheckpointKey is a public key that is trusted to sign the checkpoints of one log. It
// is a note.Verifier.
type CheckpointKey struct {
	origin string
	id     uint32
	pin    [sha256.Size]byte
	pub    *ecdsa.PublicKey
}

// NewCheckpointKey reads a P-256 key's SPKI.
func NewCheckpointKey(origin string, spki []byte) (*CheckpointKey, error) {
	pub, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("checkpoint key: %w", err)
	}
	ec, ok := pub.(*ecdsa.PublicKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, errors.New("checkpoint key: it is no P-256 key")
	}
	pin := sha256.Sum256(spki)
	return &CheckpointKey{origin: origin, id: binary.BigEndian.Uint32(pin[:]), pin: pin, pub: ec}, nil
}

// Name is the log's origin, which C2SP wants to be the key's name.
func (k *CheckpointKey) Name() string { return k.origin }

// KeyHash is the key id of signature type 0x02: the truncated SHA-256 of the SPKI.
func (k *CheckpointKey) KeyHash() uint32 { return k.id }

// Pin is the SHA-256 of the SPKI, as in the keyring.
func (k *CheckpointKey) Pin() [sha256.Size]byte { return k.pin }

// Verify reports whether sig is the key's ECDSA signature over a text.
func (k *CheckpointKey) Verify(text, sig []byte) bool {
	digest := sha256.Sum256(text)
	return ecdsa.VerifyASN1(k.pub, digest[:], sig)
}

// ErrSignature is returned for a checkpoint that no trusted key signed.
var ErrSignature = errors.New("it is not signed by a trusted key")

// Verify verifies the note's signature with the keys that are trusted.
func (c Checkpoint) Verify(keys ...*CheckpointKey) error {
	list := make([]note.Verifier, len(keys))
	for i, k := range keys {
		list[i] = k
	}
	n, err := note.Open([]byte(c.Note), note.VerifierList(list...))
	if err != nil {
		return ErrSignature
	}
	if n.Text != fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root) {
		return errors.New("the note says something else")
	}
	return nil
}
