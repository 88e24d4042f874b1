package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
)

// secretKeys are the checks of AES-GCM, HMAC and triple DES. An answer is known where the
// host has the key's value: it computed the pin, which the token proves at login, and by
// its own computation compares what comes after.
func secretKeys() []check {
	of := func(a hsm.Algorithm) func(hsm.Key) bool {
		return func(k hsm.Key) bool { return k.Algorithm == a }
	}
	return []check{
		{"AES-256-GCM", of(hsm.AES256), sealsAndOpens},
		{"AES-256-GCM, known answer", nil, knows(knownAES)},
		{"AES-256-GCM, code for a changed text", nil, codeOfAChange},
		{"HMAC-SHA-256", of(hsm.HMACSHA256), authenticates},
		{"HMAC-SHA-256, known answer", nil, knows(knownHMAC)},
		{"triple DES in CBC mode", of(hsm.TDEA), encryptsBlocks},
		{"triple DES, known answer", nil, knows(knownTDEA)},
	}
}

// sealsAndOpens is a round trip with texts of several lengths; what was changed anywhere
// must not open, and must not count against the token.
func sealsAndOpens(ctx context.Context, b *bench) (string, error) {
	name, err := b.key(sealGCM)
	if err != nil {
		return "", err
	}
	since := b.tok.Status().Since
	for i, size := range []int{0, 1, 16, 4096} {
		iv, aad, text := bytes.Repeat([]byte{byte(i)}, 12), []byte("row"), bytes.Repeat([]byte("x"), size)
		ct, err := b.tok.EncryptGCM(ctx, name, iv, aad, text)
		if err != nil {
			return "", err
		}
		clear, err := b.tok.DecryptGCM(ctx, name, iv, aad, ct)
		if err != nil {
			return "", err
		}
		if !bytes.Equal(clear, text) {
			return "", fmt.Errorf("%d bytes came back as others", size)
		}
		changed := bytes.Clone(ct)
		changed[len(changed)-1] ^= 1
		for what, err := range map[string]error{
			"text":            second(b.tok.DecryptGCM(ctx, name, iv, aad, changed)),
			"associated data": second(b.tok.DecryptGCM(ctx, name, iv, []byte("wor"), ct)),
		} {
			if !errors.Is(err, hsm.ErrNotAuthentic) {
				return "", fmt.Errorf("changed %s: %v", what, err)
			}
		}
	}
	if s := b.tok.Status(); s.State != hsm.Ready || s.Since != since {
		return "", fmt.Errorf("a changed text cost the member its state: %v", s)
	}
	return "0 to 4096 bytes; what was changed does not open", nil
}

func second[T any](_ T, err error) error { return err }

// codeOfAChange says which code the token has for a tag that does not match.
func codeOfAChange(_ context.Context, b *bench) (note string, err error) {
	k, ok := b.keys[sealGCM]
	if !ok {
		return "", untried("no key for it: " + b.missing[sealGCM])
	}
	err = b.raw.do(func(h hand) error {
		o, err := h.half(pkcs11.CKO_SECRET_KEY, idOf(k))
		if err != nil {
			return err
		}
		params := pkcs11.NewGCMParams(make([]byte, 12), nil, 128)
		defer params.Free()
		if err := h.DecryptInit(h.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, o); err != nil {
			return fmt.Errorf("C_DecryptInit: %w", err)
		}
		_, err = h.Decrypt(h.s, make([]byte, 32))
		c, name := class(err)
		note = fmt.Sprintf("%s, class %v", name, c)
		if err == nil || (c != hsm.ClassRequest && c != hsm.ClassSuspect) {
			return errors.New(note + ": a caller's text would be taken for trouble")
		}
		return nil
	})
	return note, err
}

func authenticates(ctx context.Context, b *bench) (string, error) {
	name, err := b.key(mac)
	if err != nil {
		return "", err
	}
	var macs [][]byte
	for _, text := range []string{"one", "one", "another", ""} {
		m, err := b.tok.HMAC(ctx, name, []byte(text))
		if err != nil {
			return "", err
		}
		macs = append(macs, m)
	}
	if len(macs[0]) != 32 || !bytes.Equal(macs[0], macs[1]) || bytes.Equal(macs[0], macs[2]) || bytes.Equal(macs[0], macs[3]) {
		return "", errors.New("what comes out is no HMAC-SHA-256")
	}
	return "", nil
}

func encryptsBlocks(ctx context.Context, b *bench) (string, error) {
	name, err := b.key(tdea)
	if err != nil {
		return "", err
	}
	text := []byte("0123456789abcdef0123456789abcdef")
	one, err := b.tok.EncryptTDEA(ctx, name, text)
	if err != nil {
		return "", err
	}
	again, err := b.tok.EncryptTDEA(ctx, name, text)
	if err != nil {
		return "", err
	}
	// Chaining makes equal blocks differ.
	if len(one) != len(text) || !bytes.Equal(one, again) || bytes.Equal(one[:16], one[16:]) {
		return "", errors.New("what comes out is no encryption in CBC mode")
	}
	return "", nil
}

// knows looks whether the token proved a key by the pin that the host computed.
func knows(what string) func(context.Context, *bench) (string, error) {
	return func(_ context.Context, b *bench) (string, error) {
		name, err := b.key(what)
		if err != nil {
			return "", err
		}
		for _, k := range b.tok.Keys() {
			if k.Name == name && k.Problem != "" {
				return "", fmt.Errorf("the key %s", k.Problem)
			}
		}
		return "as the host computes it", nil
	}
}
