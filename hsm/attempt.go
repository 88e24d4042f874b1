package hsm

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/internal/secret"
)

// An Attempt is something that a key of ours must not let anybody do, tried.
type Attempt struct {
	What    string         `json:"what"`
	Outcome AttemptOutcome `json:"outcome"`
	// Answer is the token's, in its own words.
	Answer string `json:"answer"`
}

// AttemptOutcome is what came of an Attempt.
type AttemptOutcome string

// The outcomes.
const (
	AttemptRefused     AttemptOutcome = "refused"     // as it must be
	AttemptAllowed     AttemptOutcome = "allowed"     // a fault of the token, or of the template
	AttemptUnsupported AttemptOutcome = "unsupported" // the token cannot do it to any key, so that nothing is shown
	AttemptUnknown     AttemptOutcome = "unknown"     // the token failed meanwhile
)

// Attempts makes a disposable key by the template of a purpose's keys, and tries what keys of
// that template must not allow: CKA_EXTRACTABLE turned on, a copy, a readable copy, its value
// read, wrapping, and a mechanism that is not its own. The key differs from a real one in
// being a session object: whatever happens, it is gone with the session.
//
// Errors: the key could not be made (a *Error of ClassRequest: this token has no such keys), or
// one with RetryAfter.
func (t *Token) Attempts(ctx context.Context, p Purpose, a Algorithm) ([]Attempt, error) {
	if err := p.Check(a); err != nil {
		return nil, err
	}
	return work(ctx, t, "attempts", func(u *unit) ([]Attempt, error) {
		template := templateFor("mintmark-attempt", randomID(), p, a)
		narrow := template.narrowing()
		public, private, err := u.generateFrom(template.disposable(), narrow)
		if err != nil && classify(err) == ClassRequest {
			narrow = nil
			public, private, err = u.generateFrom(template.disposable(), nil)
		}
		if err != nil {
			return nil, err
		}
		u.e.token.ephemeralCreated.Add(1)
		defer u.destroy(private)
		if public != 0 {
			u.e.token.ephemeralCreated.Add(1)
			defer u.destroy(public)
		}
		defer func() { u.tainted = true }() // an operation that a module let begin may be active in it
		tried := []Attempt{u.tryRead(private, a), u.tryExtractable(private)}
		tried = append(tried, u.tryCopies(private, narrow != nil)...)
		tried = append(tried, u.tryWrap(private, template.public != nil))
		return append(tried, u.tryMechanisms(private, template)...), nil
	})
}

func randomID() []byte {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	return id
}

// disposable is the template for a session object.
func (k keyTemplate) disposable() keyTemplate {
	k.public, k.private = ofSession(k.public), ofSession(k.private)
	return k
}

func ofSession(template []*pkcs11.Attribute) []*pkcs11.Attribute {
	if template == nil {
		return nil
	}
	own := slices.DeleteFunc(slices.Clone(template), func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_TOKEN })
	return append(own, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false))
}

// attempted makes an Attempt of what the token answered.
func attempted(what string, err error) Attempt {
	at := Attempt{What: what, Outcome: AttemptAllowed, Answer: "CKR_OK"}
	if err == nil {
		return at
	}
	at.Outcome, at.Answer = AttemptUnknown, err.Error()
	var known *Error
	if errors.As(err, &known) && known.Code == pkcs11.CKR_ACTION_PROHIBITED { // of which the binding knows no name
		at.Answer = known.Op + ": CKR_ACTION_PROHIBITED"
	}
	// CKR_GENERAL_ERROR and its like: SoftHSM answers them for a key that it does not wrap.
	// The token goes on answering, or the next call says otherwise.
	if class := classify(err); class == ClassRequest || class == ClassSuspect {
		at.Outcome = AttemptRefused
	}
	return at
}

// tryRead asks for the value.
func (u *unit) tryRead(h handle, a Algorithm) Attempt {
	what, typ := "read CKA_VALUE", uint(pkcs11.CKA_VALUE)
	if a.rsaBits() != 0 {
		what, typ = "read CKA_PRIVATE_EXPONENT", pkcs11.CKA_PRIVATE_EXPONENT
	}
	at, err := u.attributes(h, typ)
	if err == nil {
		secret.Wipe(at[0])
	}
	return attempted(what, err)
}

// tryExtractable tries to turn CKA_EXTRACTABLE on. A token that answers CKR_OK and leaves the
// flag as it was has refused.
func (u *unit) tryExtractable(h handle) Attempt {
	const what = "set CKA_EXTRACTABLE"
	err := u.e.ctx.SetAttributeValue(u.s, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)})
	if err != nil {
		return attempted(what, ckr("C_SetAttributeValue", err))
	}
	set, err := u.flag(h, pkcs11.CKA_EXTRACTABLE)
	return extractable(what, set, err)
}

// extractable makes an Attempt of a flag that the token said it turned on. Not to be able to read it
// shows nothing, whatever the token says to that.
func extractable(what string, set bool, err error) Attempt {
	switch {
	case err != nil:
		return Attempt{What: what, Outcome: AttemptUnknown, Answer: "CKR_OK, and then " + err.Error()}
	case set:
		return Attempt{What: what, Outcome: AttemptAllowed, Answer: "CKR_OK"}
	default:
		return Attempt{What: what, Outcome: AttemptRefused, Answer: "CKR_OK, and the flag stays false"}
	}
}

// tryCopies tries to copy the key as it is, and into one that can be wrapped and read. narrowed
// says that the token took CKA_COPYABLE.
func (u *unit) tryCopies(h handle, narrowed bool) []Attempt {
	same := u.tryCopy("C_CopyObject", h)
	if same.Outcome == AttemptAllowed && !narrowed {
		same.Outcome = AttemptUnsupported
		same.Answer = "CKR_OK: the token does not know CKA_COPYABLE; the copy has the key's own flags"
	}
	return []Attempt{same, u.tryCopy("C_CopyObject with CKA_EXTRACTABLE and without CKA_SENSITIVE", h,
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false))}
}

func (u *unit) tryCopy(what string, h handle, other ...*pkcs11.Attribute) Attempt {
	copied, err := u.e.ctx.CopyObject(u.s, h, append(other, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
	if err == nil {
		u.e.token.ephemeralCreated.Add(1)
		u.destroy(copied)
	}
	return attempted(what, ckr("C_CopyObject", err))
}

// tryWrap tries to wrap the key under one that was made for it. That this one wraps at all is
// shown with a key that may be wrapped.
func (u *unit) tryWrap(h handle, private bool) Attempt {
	what, mech := "C_WrapKey with CKM_AES_KEY_WRAP", uint(pkcs11.CKM_AES_KEY_WRAP)
	if private { // whose encoding is no multiple of eight bytes
		what, mech = "C_WrapKey with CKM_AES_KEY_WRAP_PAD", pkcs11.CKM_AES_KEY_WRAP_PAD
	}
	with, err := u.sessionSecret(pkcs11.CKM_AES_KEY_GEN, pkcs11.CKK_AES, pkcs11.NewAttribute(pkcs11.CKA_WRAP, true))
	if err != nil {
		return Attempt{What: what, Outcome: AttemptUnsupported, Answer: "no key to wrap with: " + err.Error()}
	}
	defer u.destroy(with)
	bait, err := u.sessionSecret(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, pkcs11.CKK_GENERIC_SECRET,
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true))
	if err != nil {
		return Attempt{What: what, Outcome: AttemptUnsupported, Answer: "no key that could be wrapped: " + err.Error()}
	}
	defer u.destroy(bait)
	if err := u.wrap(mech, with, bait); err != nil {
		return Attempt{What: what, Outcome: AttemptUnsupported, Answer: "the token wraps no key at all: " + err.Error()}
	}
	return attempted(what, u.wrap(mech, with, h))
}

func (u *unit) wrap(mechanism uint, with, h handle) error {
	wrapped, err := u.e.ctx.WrapKey(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, with, h)
	secret.Wipe(wrapped)
	return ckr("C_WrapKey", err)
}

// sessionSecret makes a secret key of 32 bytes that is gone with the session.
func (u *unit) sessionSecret(mechanism, keyType uint, attributes ...*pkcs11.Attribute) (handle, error) {
	h, err := u.e.ctx.GenerateKey(u.s, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, append([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
	}, attributes...))
	if err != nil {
		return 0, ckr("C_GenerateKey", err)
	}
	u.e.token.ephemeralCreated.Add(1)
	return h, nil
}

// A misuse is a mechanism that keys of a kind could be used with and ours may not.
type misuse struct {
	name      string
	mechanism uint
	parameter []byte
	data      int // bytes to give it
	decrypt   bool
	encrypt   bool
	derive    bool // none of the three: it signs
}

// misusesOf gives what to try with a key, by the mechanism that it is made for.
func misusesOf(own uint) []misuse {
	iv := make([]byte, 16)
	switch own {
	case pkcs11.CKM_RSA_PKCS:
		return []misuse{
			{name: "sign with CKM_SHA256_RSA_PKCS", mechanism: pkcs11.CKM_SHA256_RSA_PKCS, data: 32},
			{name: "decrypt with CKM_RSA_PKCS", mechanism: pkcs11.CKM_RSA_PKCS, data: 256, decrypt: true},
		}
	case pkcs11.CKM_ECDSA:
		return []misuse{
			{name: "sign with CKM_ECDSA_SHA256", mechanism: pkcs11.CKM_ECDSA_SHA256, data: 32},
			{name: "agree with CKM_ECDH1_DERIVE", mechanism: pkcs11.CKM_ECDH1_DERIVE, derive: true},
		}
	case pkcs11.CKM_ECDH1_DERIVE:
		return []misuse{{name: "sign with CKM_ECDSA", mechanism: pkcs11.CKM_ECDSA, data: 32}}
	case pkcs11.CKM_AES_GCM:
		return []misuse{{name: "encrypt with CKM_AES_CBC", mechanism: pkcs11.CKM_AES_CBC, parameter: iv, data: 16, encrypt: true}}
	case pkcs11.CKM_DES3_CBC:
		return []misuse{{name: "encrypt with CKM_DES3_ECB", mechanism: pkcs11.CKM_DES3_ECB, data: 8, encrypt: true}}
	default:
		return []misuse{{name: "sign with CKM_SHA512_HMAC", mechanism: pkcs11.CKM_SHA512_HMAC, data: 32}}
	}
}

// tryMechanisms tries mechanisms that the key does not allow. One that the token does not have
// shows nothing.
func (u *unit) tryMechanisms(h handle, template keyTemplate) []Attempt {
	var tried []Attempt
	for _, m := range misusesOf(template.allowed[0]) {
		mech := []*pkcs11.Mechanism{pkcs11.NewMechanism(m.mechanism, m.parameter)}
		if _, err := u.e.ctx.GetMechanismInfo(u.e.slot, mech); err != nil {
			tried = append(tried, Attempt{What: m.name, Outcome: AttemptUnsupported, Answer: "the token does not have it: " + ckr("C_GetMechanismInfo", err).Error()})
			continue
		}
		tried = append(tried, attempted(m.name, u.misuse(m, mech, h)))
	}
	return tried
}

func (u *unit) misuse(m misuse, mech []*pkcs11.Mechanism, h handle) error {
	data := make([]byte, m.data)
	switch {
	case m.derive:
		return u.misagree(h)
	case m.decrypt:
		err := ckr("C_DecryptInit", u.e.ctx.DecryptInit(u.s, mech, h))
		if err == nil {
			// That it began is the fault; the text is no ciphertext of this key.
			_, _ = u.e.sized.decrypt(u.s, data)
		}
		return err
	case m.encrypt:
		if err := u.e.ctx.EncryptInit(u.s, mech, h); err != nil {
			return ckr("C_EncryptInit", err)
		}
		_, err := u.e.sized.encryptBlocks(u.s, data)
		return err
	default:
		if err := u.e.ctx.SignInit(u.s, mech, h); err != nil {
			return ckr("C_SignInit", err)
		}
		_, err := u.e.sized.sign(u.s, data, 512)
		return err
	}
}

// misagree agrees with a key of the process's own.
func (u *unit) misagree(h handle) error {
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	z, err := u.deriveZ(h, peer.PublicKey().Bytes(), u.e.kdf)
	if err == nil {
		u.destroy(z)
	}
	return err
}

// NoSuchKeys reports whether an error of Attempts says that the token cannot make such keys.
func NoSuchKeys(err error) bool {
	var known *Error
	return errors.As(err, &known) && known.Class() == ClassRequest
}
