package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/internal/secret"
)

// kdfWay is how the single-step KDF, SHA-256(00000001 ‖ Z ‖ OtherInfo), is computed.
// PKCS#11 v3.0 has it as CKD_SHA256_KDF_SP800, which no module tried accepts
// (CKD_SHA256_KDF is ANSI X9.63's, with Z before the counter). The ways are ordered
// from best to worst by how much of the secret the host sees.
type kdfWay int

const (
	// kdfInToken: concatenation and SHA-256 derivation inside the token. Neither Z nor
	// the AES key ever leaves it.
	kdfInToken kdfWay = iota
	// kdfDigestKey: C_DigestKey feeds a sensitive Z into a digest. Only the single-use
	// AES key reaches the host.
	kdfDigestKey
	// kdfReadAndWipe: Z is read, hashed on the host and overwritten.
	kdfReadAndWipe
	// kdfNone: a member that signs only.
	kdfNone
)

var kdfWays = []kdfWay{kdfInToken, kdfDigestKey, kdfReadAndWipe}

// String is the way's name in logs and reports.
func (w kdfWay) String() string {
	return [...]string{"in-token", "digest-key", "read-and-wipe", "none"}[w]
}

// kdf is a way together with the form in which this token takes a peer's point.
type kdf struct {
	way     kdfWay
	derPeer bool
}

func (k kdf) String() string {
	if k.derPeer {
		return k.way.String() + ", DER peer point"
	}
	return k.way.String() + ", raw peer point"
}

// A Probe is what trying a capability on the token gave.
type Probe struct {
	Name string // what was tried
	OK   bool   // whether the known answer came out
	Err  string // what came instead
}

// KDF names the way in use: in-token, digest-key or read-and-wipe.
func (t *Token) KDF() string {
	if e := t.current.Load(); e != nil {
		return e.kdf.way.String()
	}
	return "unknown"
}

// Probes lists what was tried when this epoch began, in order.
func (t *Token) Probes() []Probe {
	if e := t.current.Load(); e != nil {
		return e.probes
	}
	return nil
}

// chooseKDF takes the best way that gives the known answer. Mechanism lists are not
// asked: NSS does not list what it can do, others list what they cannot.
//
// A fault on the way is no answer: only a token that cannot, or answers wrongly, is asked
// for a worse way, and never for one that is worse than it has proved before.
func (e *epoch) chooseKDF() error {
	e.probes = nil // of an attempt before
	if e.token.cfg.SignaturesOnly {
		e.kdf = kdf{way: kdfNone}
		return nil
	}
	for _, way := range kdfWays {
		for _, der := range []bool{false, true} {
			how := kdf{way: way, derPeer: der}
			err := e.proveKDF(how)
			p := Probe{Name: "key agreement: " + how.String(), OK: err == nil}
			if err != nil {
				p.Err = err.Error()
			}
			e.probes = append(e.probes, p)
			switch {
			case err == nil && e.worse(how):
				return fmt.Errorf("only %v gives the known answer, and a better way did before", how)
			case err == nil:
				e.kdf = how
				return nil
			case !incapable(err):
				return err
			}
		}
	}
	return errors.New("the token gives the known answer by none of the known ways")
}

// proveKDF proves a way, up to three times if it meets an error that proves nothing: a
// passing fault must not cost a better way.
func (e *epoch) proveKDF(how kdf) (err error) {
	for range 3 {
		err = e.withSession(func(u *unit) error { return u.proveKDF(how) })
		if classify(err) != ClassSuspect {
			break
		}
	}
	return err
}

// incapable reports whether a failed proof says something of the token's abilities.
// Modules answer CKR_GENERAL_ERROR, too, for a mechanism they do not have.
func incapable(err error) bool {
	var known *Error
	if !errors.As(err, &known) {
		return true
	}
	return known.Class() == ClassRequest || known.Class() == ClassSuspect
}

// worse reports whether the way is worse than one that this token has proved before,
// and remembers the best.
func (e *epoch) worse(how kdf) bool {
	best := &e.token.bestKDF // owned by the holder of the machine's op, as begin is
	if *best != nil && how.way > **best {
		return true
	}
	*best = &how.way
	return false
}

var errWrongAnswer = errors.New("the answer differs from the known one")

// proveKDF seals to a fresh key of our own and computes the same on the host, with
// crypto/ecdh: the answer is known without importing a private key, which many HSMs
// refuse.
func (u *unit) proveKDF(how kdf) error {
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	plain := []byte("mintmark self-test of key agreement")
	otherInfo := []byte("mintmark self-test")
	iv := make([]byte, gcmIV)
	sealed, err := u.agreeAndSeal(Sealing{
		Peer:      peer.PublicKey(),
		OtherInfo: func(point []byte) []byte { return append(bytes.Clone(otherInfo), point...) },
		IV:        iv,
		Plaintext: plain,
	}, how)
	if err != nil {
		return err
	}
	point, err := ecdh.P256().NewPublicKey(sealed.EphemeralPublicKey)
	if err != nil {
		return err
	}
	z, err := peer.ECDH(point)
	if err != nil {
		return err
	}
	key := sha256.Sum256(bytes.Join([][]byte{kdfCounter, z, otherInfo, sealed.EphemeralPublicKey}, nil))
	aead, err := newGCM(key[:])
	if err != nil {
		return err
	}
	if got, err := aead.Open(nil, iv, sealed.Ciphertext, nil); err != nil || !bytes.Equal(got, plain) {
		return errWrongAnswer
	}
	return nil
}

// kdfCounter is the KDF's counter for its first and only block.
var kdfCounter = []byte{0, 0, 0, 1}

// seal derives the AES key from z and encrypts with it, once.
func (w kdfWay) seal(u *unit, z handle, otherInfo, iv, aad, plaintext []byte) ([]byte, error) {
	switch w {
	case kdfInToken:
		k, err := u.deriveInToken(z, otherInfo)
		if err != nil {
			return nil, err
		}
		defer u.destroy(k)
		return u.encryptGCM(k, iv, aad, plaintext)
	case kdfDigestKey:
		k, err := u.digestKey(z, otherInfo)
		if err != nil {
			return nil, err
		}
		return sealOnHost(k, iv, aad, plaintext)
	default:
		k, err := u.readAndHash(z, otherInfo)
		if err != nil {
			return nil, err
		}
		return sealOnHost(k, iv, aad, plaintext)
	}
}

// deriveInToken is Z -> counter‖Z -> counter‖Z‖OtherInfo -> SHA-256 as an AES key
// (PKCS#11 v2.40 current mechanisms, 2.43.4, 2.43.5 and 2.41.5).
func (u *unit) deriveInToken(z handle, otherInfo []byte) (handle, error) {
	a, err := u.deriveData(pkcs11.CKM_CONCATENATE_DATA_AND_BASE, z, kdfCounter)
	if err != nil {
		return 0, err
	}
	defer u.destroy(a)
	b, err := u.deriveData(pkcs11.CKM_CONCATENATE_BASE_AND_DATA, a, otherInfo)
	if err != nil {
		return 0, err
	}
	defer u.destroy(b)
	k, err := u.e.ctx.DeriveKey(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_SHA256_KEY_DERIVATION, nil)}, b, contentKeyTemplate())
	if err != nil {
		return 0, ckr("C_DeriveKey", err)
	}
	u.e.token.ephemeralCreated.Add(1)
	return k, nil
}

// stringData is CK_KEY_DERIVATION_STRING_DATA, which the binding does not know.
type stringData struct {
	data *byte
	len  uint
}

func (u *unit) deriveData(mech uint, base handle, data []byte) (handle, error) {
	var pin runtime.Pinner // the module follows the pointer inside the parameter
	pin.Pin(&data[0])
	defer pin.Unpin()
	sd := stringData{&data[0], uint(len(data))}
	param := bytes.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&sd)), unsafe.Sizeof(sd)))
	h, err := u.e.ctx.DeriveKey(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mech, param)}, base, concatenationTemplate())
	runtime.KeepAlive(data)
	if err != nil {
		return 0, ckr("C_DeriveKey", err)
	}
	u.e.token.ephemeralCreated.Add(1)
	return h, nil
}

// digestKey gives the AES key, with Z unread.
func (u *unit) digestKey(z handle, otherInfo []byte) ([]byte, error) {
	if err := u.e.ctx.DigestInit(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_SHA256, nil)}); err != nil {
		return nil, ckr("C_DigestInit", err)
	}
	if err := u.e.ctx.DigestUpdate(u.s, kdfCounter); err != nil {
		return nil, ckr("C_DigestUpdate", err)
	}
	if err := u.e.ctx.DigestKey(u.s, z); err != nil {
		return nil, ckr("C_DigestKey", err)
	}
	if err := u.e.ctx.DigestUpdate(u.s, otherInfo); err != nil {
		return nil, ckr("C_DigestUpdate", err)
	}
	return u.e.sized.digestFinal(u.s, sha256.Size)
}

// readAndHash reads Z and hashes it here.
func (u *unit) readAndHash(z handle, otherInfo []byte) ([]byte, error) {
	const room = 64 // for one that is longer than it should be, to say so
	value, err := u.e.sized.attribute(u.s, z, pkcs11.CKA_VALUE, room)
	if err != nil {
		return nil, err
	}
	defer secret.Wipe(value)
	if len(value) != 32 {
		return nil, fmt.Errorf("shared secret has %d bytes instead of 32", len(value))
	}
	k := make([]byte, sha256.Size) // made outside: it is used after
	Erase(func() {
		h := sha256.New()
		h.Write(kdfCounter)
		h.Write(value)
		h.Write(otherInfo)
		h.Sum(k[:0])
		h.Reset()
	})
	return k, nil
}

// sealOnHost encrypts with a single-use key and overwrites the key.
func sealOnHost(key, iv, aad, plaintext []byte) ([]byte, error) {
	defer secret.Wipe(key)
	var out []byte
	var err error
	Erase(func() {
		var aead cipher.AEAD
		if aead, err = newGCM(key); err == nil {
			out = aead.Seal(nil, iv, plaintext, aad)
		}
	})
	return out, err
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
