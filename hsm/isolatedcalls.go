package hsm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/mintmark/mintmark/internal/span"
)

// do has the child do one operation. The place in the lane is kept until the child has done
// it, also for a caller who has left. The answer has n parts.
func (m *isolated) do(ctx context.Context, l *lane, n int, r request) ([][]byte, error) {
	name := operations[r.op].name
	asked := time.Now()
	healthy, err := m.healthy()
	if err == nil {
		err = m.admit(ctx, l, healthy)
	}
	if err != nil {
		m.observe(name, l, time.Since(asked), 0, outcome(err))
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	span.Event(ctx, admitted)
	queued := time.Since(asked)
	p := m.current.Load() // a healthy member has one
	out, took, err := p.exchange(ctx, r, l.leave)
	switch {
	case err == nil && len(out) != n:
		p.lose(errMessage)
		err = m.failed(errMessage)
	case errors.Is(err, errProcessLost):
		err = fmt.Errorf("%s: %w", name, m.failed(err))
	case errors.Is(err, errNotSent) && ctx.Err() == nil:
		err = fmt.Errorf("%s: %w", name, err)
	case errors.Is(err, errNotSent), errors.Is(err, errLate):
		err = fmt.Errorf("%s: %w", name, &unavailable{err: errLate, after: time.Second})
	}
	m.observe(name, l, queued, took, outcome(err))
	if err != nil {
		return nil, err
	}
	return out, nil
}

// first is do for operations with one result.
func (m *isolated) first(ctx context.Context, l *lane, o op, fields ...[]byte) ([]byte, error) {
	out, err := m.do(ctx, l, 1, request{op: o, fields: fields})
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

// withKey is first for what a key is used for: the first field is its name.
func (m *isolated) withKey(ctx context.Context, l *lane, o op, fields ...[]byte) ([]byte, error) {
	out, err := m.first(ctx, l, o, fields...)
	if err == nil {
		m.count(string(fields[0]))
	}
	return out, err
}

// Sign signs a digest with the key called name.
func (m *isolated) Sign(ctx context.Context, name string, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, scheme := packOpts(opts)
	return m.withKey(ctx, m.signing(m.keyring(), name), opSign, []byte(name), digest, hash, scheme)
}

// AgreeAndSeal seals one payload. What the seal's OtherInfo and associated data are is
// computed here, by the caller's code, when the child has made the ephemeral pair.
func (m *isolated) AgreeAndSeal(ctx context.Context, s Sealing) (Sealed, error) {
	if err := s.check(); err != nil {
		return Sealed{}, fmt.Errorf("agree-and-seal: %w", err)
	}
	out, err := m.do(ctx, m.ec, 2, request{
		op: opSeal, fields: [][]byte{s.Peer.Bytes(), s.IV, s.Plaintext},
		tell: func(point []byte) [][]byte {
			if s.AAD == nil {
				return [][]byte{s.OtherInfo(point)}
			}
			return [][]byte{s.OtherInfo(point), s.AAD(point)}
		},
	})
	if err != nil {
		return Sealed{}, err
	}
	return Sealed{EphemeralPublicKey: out[0], Ciphertext: out[1]}, nil
}

// AgreeKey agrees with a peer's ephemeral key by the static key called name.
func (m *isolated) AgreeKey(ctx context.Context, name string, peer *ecdh.PublicKey, otherInfo []byte) ([]byte, error) {
	if peer == nil || peer.Curve() != ecdh.P256() {
		return nil, errNoPeer
	}
	return m.withKey(ctx, m.ec, opAgreeKey, []byte(name), peer.Bytes(), otherInfo)
}

// EncryptGCM seals plaintext with the AES key called name.
func (m *isolated) EncryptGCM(ctx context.Context, name string, iv, aad, plaintext []byte) ([]byte, error) {
	return m.withKey(ctx, m.ec, opEncryptGCM, []byte(name), iv, aad, plaintext)
}

// DecryptGCM opens what EncryptGCM made.
func (m *isolated) DecryptGCM(ctx context.Context, name string, iv, aad, ciphertext []byte) ([]byte, error) {
	return m.withKey(ctx, m.ec, opDecryptGCM, []byte(name), iv, aad, ciphertext)
}

// EncryptTDEA encrypts whole blocks with the triple DES key called name.
func (m *isolated) EncryptTDEA(ctx context.Context, name string, plaintext []byte) ([]byte, error) {
	return m.withKey(ctx, m.ec, opEncryptTDEA, []byte(name), plaintext)
}

// HMAC computes HMAC-SHA-256 over data with the key called name.
func (m *isolated) HMAC(ctx context.Context, name string, data []byte) ([]byte, error) {
	return m.withKey(ctx, m.ec, opHMAC, []byte(name), data)
}

// Random gives n bytes of the token's random numbers; see Token.Random.
func (m *isolated) Random(ctx context.Context, n int) ([]byte, error) {
	return m.first(ctx, m.ec, opRandom, number(int64(n)))
}

// SelfTest has the key pair called name prove itself.
func (m *isolated) SelfTest(ctx context.Context, name string) error {
	_, err := m.do(ctx, m.signing(m.keyring(), name), 0, request{op: opSelfTest, fields: [][]byte{[]byte(name)}})
	return err
}

// Ping asks the token for its session state.
func (m *isolated) Ping(ctx context.Context) error {
	_, err := m.do(ctx, m.ec, 0, request{op: opPing})
	return err
}

// Info reads the module's and the token's description.
func (m *isolated) Info(ctx context.Context) (info Info, err error) {
	b, err := m.first(ctx, m.ec, opInfo)
	if err == nil {
		err = json.Unmarshal(b, &info)
	}
	return info, err
}

// SessionObjects counts the keys on the token that are session objects of the child.
func (m *isolated) SessionObjects(ctx context.Context) (int, error) {
	b, err := m.first(ctx, m.ec, opSessionObjects)
	return int(asNumber(b)), err
}

// Inventory reads the attributes of every object on the token; see Token.Inventory.
func (m *isolated) Inventory(ctx context.Context) (Inventory, error) {
	return inventoryOf(ctx, m, func(ctx context.Context) (seen []Observed, err error) {
		b, err := m.first(ctx, m.ec, opInventory)
		if err == nil {
			err = json.Unmarshal(b, &seen)
		}
		return seen, err
	})
}
