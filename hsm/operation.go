package hsm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"encoding/json"
	"errors"
)

// op is an operation that a member's process does.
type op byte

const (
	opBeat op = iota // says that the process lives; the token is not asked
	opSign
	opSeal
	opAgreeKey
	opEncryptGCM
	opDecryptGCM
	opEncryptTDEA
	opHMAC
	opRandom
	opSelfTest
	opPing
	opInfo
	opSessionObjects
	opInventory
	opUse
	opClose
)

// operations say for each op what it is called in metrics, how many fields it has, and what
// the child does for it. Answers are for whoever asked to overwrite.
var operations = [...]struct {
	name   string
	fields int
	do     func(ctx context.Context, t *Token, c *asked) ([][]byte, error)
}{
	opBeat: {"beat", 0, func(context.Context, *Token, *asked) ([][]byte, error) { return nil, nil }},
	// key, digest, hash, scheme
	opSign: {"sign", 4, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		return one(t.Sign(ctx, string(c.fields[0]), c.fields[1], signerOpts(c.fields[2], c.fields[3])))
	}},
	// peer, IV, plaintext; the child asks for OtherInfo
	opSeal: {"agree-and-seal", 3, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		peer, err := ecdh.P256().NewPublicKey(c.fields[0])
		if err != nil {
			return nil, errMessage
		}
		var aad []byte
		sealed, err := t.AgreeAndSeal(ctx, Sealing{
			Peer: peer, IV: c.fields[1], Plaintext: c.fields[2],
			OtherInfo: func(point []byte) (otherInfo []byte) {
				otherInfo, aad = c.ask(point)
				return otherInfo
			},
			AAD: func([]byte) []byte { return aad }, // asked for after OtherInfo, and once for each
		})
		return [][]byte{sealed.EphemeralPublicKey, sealed.Ciphertext}, err
	}},
	// key, peer, OtherInfo
	opAgreeKey: {"agree", 3, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		peer, err := ecdh.P256().NewPublicKey(c.fields[1])
		if err != nil {
			return nil, errMessage
		}
		return one(t.AgreeKey(ctx, string(c.fields[0]), peer, c.fields[2]))
	}},
	// key, IV, associated data, plaintext or ciphertext
	opEncryptGCM: {"encrypt", 4, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		return one(t.EncryptGCM(ctx, string(c.fields[0]), c.fields[1], c.fields[2], c.fields[3]))
	}},
	opDecryptGCM: {"decrypt", 4, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		return one(t.DecryptGCM(ctx, string(c.fields[0]), c.fields[1], c.fields[2], c.fields[3]))
	}},
	// key, plaintext or data
	opEncryptTDEA: {"encrypt", 2, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		return one(t.EncryptTDEA(ctx, string(c.fields[0]), c.fields[1]))
	}},
	opHMAC: {"hmac", 2, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		return one(t.HMAC(ctx, string(c.fields[0]), c.fields[1]))
	}},
	// how many bytes
	opRandom: {"random", 1, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		return one(t.Random(ctx, int(asNumber(c.fields[0]))))
	}},
	// key
	opSelfTest: {"self-test", 1, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		return nil, t.SelfTest(ctx, string(c.fields[0]))
	}},
	opPing: {"ping", 0, func(ctx context.Context, t *Token, _ *asked) ([][]byte, error) { return nil, t.Ping(ctx) }},
	opInfo: {"info", 0, func(ctx context.Context, t *Token, _ *asked) ([][]byte, error) {
		info, err := t.Info(ctx)
		if err != nil {
			return nil, err
		}
		return one(json.Marshal(info))
	}},
	opSessionObjects: {"count-session-objects", 0, func(ctx context.Context, t *Token, _ *asked) ([][]byte, error) {
		n, err := t.SessionObjects(ctx)
		return [][]byte{number(int64(n))}, err
	}},
	opInventory: {"inventory", 0, func(ctx context.Context, t *Token, _ *asked) ([][]byte, error) {
		seen, err := t.observed(ctx)
		if err != nil {
			return nil, err
		}
		return one(json.Marshal(seen))
	}},
	// ringSettings
	opUse: {"use", 1, func(ctx context.Context, t *Token, c *asked) ([][]byte, error) {
		var s ringSettings
		if err := json.Unmarshal(c.fields[0], &s); err != nil || s.Keyring == nil {
			return nil, errMessage
		}
		return nil, c.child.use(ctx, t, s)
	}},
	opClose: {"close", 0, func(ctx context.Context, t *Token, _ *asked) ([][]byte, error) { return nil, t.Close(ctx) }},
}

func one(b []byte, err error) ([][]byte, error) { return [][]byte{b}, err }

// Schemes of a signature, as they are asked for.
const (
	schemeNone = iota // no options at all
	schemePlain
	schemePSS
)

// packOpts gives a signature's options as two fields: hash and scheme.
func packOpts(opts crypto.SignerOpts) (hash, scheme []byte) {
	if opts == nil {
		return number(0), number(schemeNone)
	}
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return number(int64(opts.HashFunc())), number(schemePSS)
	}
	return number(int64(opts.HashFunc())), number(schemePlain)
}

// signerOpts are options that Token.Sign judges as those that packOpts was given.
func signerOpts(hash, scheme []byte) crypto.SignerOpts {
	h := crypto.Hash(asNumber(hash))
	switch asNumber(scheme) {
	case schemePlain:
		return h
	case schemePSS:
		return &rsa.PSSOptions{Hash: h}
	default:
		return nil
	}
}

var errNotOpened = errors.New("the module is being loaded")
