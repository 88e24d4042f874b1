package hsm

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/internal/secret"
)

// An Inventory is what stands on one token, read from it at one moment.
type Inventory struct {
	Member string    `json:"member"`
	At     time.Time `json:"at"`
	Token  Info      `json:"token"`
	// Keys are the keyring's keys, in its order, with their objects.
	Keys []KeyInventory `json:"keys"`
	// Unlisted are the token's objects of any class that no entry of the keyring names.
	Unlisted []Observed `json:"unlisted"`
}

// A KeyInventory is one entry of the keyring with what the token has under its CKA_ID.
type KeyInventory struct {
	KeyStatus
	// Uses counts the units of work given to this key since the process opened the token.
	Uses uint64
	// Objects are the private or secret key first, then the public half, then what else is
	// there.
	Objects []Observed
	// Deviations says how the private or secret key differs from what is made for its
	// purpose; see Observed.Deviations.
	Deviations []string
}

// An Observed is an object as the token describes it, asked now and not remembered.
type Observed struct {
	Class string `json:"class"` // ClassPrivateKey…, CKO_CERTIFICATE, CKO_DATA, or 0x and the number
	ID    string `json:"id"`    // CKA_ID, hex
	Label string `json:"label"` // CKA_LABEL
	// KeyType is CKK_RSA and so on; empty of what is no key.
	KeyType string `json:"keyType,omitempty"`
	Bits    int    `json:"bits,omitempty"` // of the modulus, the curve's order, or the secret; 0 where the token does not say
	// Flags are the boolean attributes by their PKCS#11 names without CKA_. One that the
	// token does not give for this object is not in it.
	Flags map[string]bool `json:"flags"`
	// GenMechanism is CKA_KEY_GEN_MECHANISM; empty for a key that was not generated, or
	// where the token does not say.
	GenMechanism string `json:"keyGenMechanism,omitempty"`
	// Allowed is CKA_ALLOWED_MECHANISMS; nil where the token does not say, which means any.
	Allowed []string `json:"allowedMechanisms,omitempty"`
	// Readable reports whether the token gave out the value of a private or secret key when
	// asked for it. It was overwritten at once.
	Readable bool `json:"readable"`
	// SPKISHA256 is that of a public key of a known kind, hex.
	SPKISHA256 string `json:"spkiSha256,omitempty"`
}

// flagNames are the boolean attributes that an Observed has, in PKCS#11's own words.
var flagNames = map[uint]string{
	pkcs11.CKA_TOKEN: "TOKEN", pkcs11.CKA_PRIVATE: "PRIVATE", pkcs11.CKA_MODIFIABLE: "MODIFIABLE", pkcs11.CKA_COPYABLE: "COPYABLE",
	pkcs11.CKA_SENSITIVE: "SENSITIVE", pkcs11.CKA_ALWAYS_SENSITIVE: "ALWAYS_SENSITIVE",
	pkcs11.CKA_EXTRACTABLE: "EXTRACTABLE", pkcs11.CKA_NEVER_EXTRACTABLE: "NEVER_EXTRACTABLE", pkcs11.CKA_LOCAL: "LOCAL",
	pkcs11.CKA_ENCRYPT: "ENCRYPT", pkcs11.CKA_DECRYPT: "DECRYPT", pkcs11.CKA_WRAP: "WRAP", pkcs11.CKA_UNWRAP: "UNWRAP",
	pkcs11.CKA_SIGN: "SIGN", pkcs11.CKA_SIGN_RECOVER: "SIGN_RECOVER", pkcs11.CKA_VERIFY: "VERIFY",
	pkcs11.CKA_VERIFY_RECOVER: "VERIFY_RECOVER", pkcs11.CKA_DERIVE: "DERIVE",
	pkcs11.CKA_TRUSTED: "TRUSTED", pkcs11.CKA_WRAP_WITH_TRUSTED: "WRAP_WITH_TRUSTED", pkcs11.CKA_ALWAYS_AUTHENTICATE: "ALWAYS_AUTHENTICATE",
}

var classNamesOf = map[uint]string{
	pkcs11.CKO_PRIVATE_KEY: ClassPrivateKey, pkcs11.CKO_PUBLIC_KEY: ClassPublicKey, pkcs11.CKO_SECRET_KEY: ClassSecretKey,
	pkcs11.CKO_CERTIFICATE: "CKO_CERTIFICATE", pkcs11.CKO_DATA: "CKO_DATA", pkcs11.CKO_DOMAIN_PARAMETERS: "CKO_DOMAIN_PARAMETERS",
}

var keyTypeNames = map[uint]string{
	pkcs11.CKK_RSA: "CKK_RSA", pkcs11.CKK_EC: "CKK_EC", pkcs11.CKK_AES: "CKK_AES", pkcs11.CKK_DES: "CKK_DES", pkcs11.CKK_DES2: "CKK_DES2",
	pkcs11.CKK_DES3: "CKK_DES3", pkcs11.CKK_GENERIC_SECRET: "CKK_GENERIC_SECRET", pkcs11.CKK_SHA256_HMAC: "CKK_SHA256_HMAC",
	pkcs11.CKK_DSA: "CKK_DSA", pkcs11.CKK_DH: "CKK_DH",
}

var mechanismNames = map[uint]string{
	pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN: "CKM_RSA_PKCS_KEY_PAIR_GEN", pkcs11.CKM_EC_KEY_PAIR_GEN: "CKM_EC_KEY_PAIR_GEN",
	pkcs11.CKM_AES_KEY_GEN: "CKM_AES_KEY_GEN", pkcs11.CKM_DES3_KEY_GEN: "CKM_DES3_KEY_GEN",
	pkcs11.CKM_GENERIC_SECRET_KEY_GEN: "CKM_GENERIC_SECRET_KEY_GEN",
	pkcs11.CKM_RSA_PKCS:               "CKM_RSA_PKCS", pkcs11.CKM_ECDSA: "CKM_ECDSA", pkcs11.CKM_ECDH1_DERIVE: "CKM_ECDH1_DERIVE",
	pkcs11.CKM_AES_GCM: "CKM_AES_GCM", pkcs11.CKM_DES3_CBC: "CKM_DES3_CBC", pkcs11.CKM_SHA256_HMAC: "CKM_SHA256_HMAC",
}

// nameOf gives a number its PKCS#11 name, or the number.
func nameOf(names map[uint]string, n uint) string {
	if name, ok := names[n]; ok {
		return name
	}
	return fmt.Sprintf("0x%x", n)
}

// Inventory reads the attributes of every object on the token. It costs some twenty calls
// an object and is for people who ask, not for requests.
//
// Errors: one with RetryAfter when the token did not answer.
func (t *Token) Inventory(ctx context.Context) (Inventory, error) {
	info, err := t.Info(ctx)
	if err != nil {
		return Inventory{}, err
	}
	seen, err := t.observeObjects(ctx)
	if err != nil {
		return Inventory{}, err
	}
	return inventoryOf(t, info, seen), nil
}

// observeObjects describes every object of the token.
func (t *Token) observeObjects(ctx context.Context) ([]Observed, error) {
	return work(ctx, t, "inventory", func(u *unit) ([]Observed, error) { return u.observeAll() })
}

// inventoryOf puts what was seen on a member beside what its keyring says.
func inventoryOf(m Member, info Info, seen []Observed) Inventory {
	inv := Inventory{Member: m.Name(), At: time.Now().UTC(), Token: info}
	byID := map[string][]Observed{}
	for _, o := range seen {
		byID[o.ID] = append(byID[o.ID], o)
	}
	for _, k := range m.Keys() {
		own := byID[k.ID]
		slices.SortStableFunc(own, func(a, b Observed) int { return a.rank() - b.rank() })
		inv.Keys = append(inv.Keys, KeyInventory{KeyStatus: k, Uses: m.Uses(k.Name), Objects: own, Deviations: deviations(k.Key, own)})
		delete(byID, k.ID)
	}
	for _, o := range seen {
		if _, left := byID[o.ID]; left {
			inv.Unlisted = append(inv.Unlisted, o)
		}
	}
	return inv
}

// rank sorts a key's objects: what is to be kept first.
func (o Observed) rank() int {
	switch o.Class {
	case ClassPrivateKey, ClassSecretKey:
		return 0
	case ClassPublicKey:
		return 1
	default:
		return 2
	}
}

// deviations are those of the private or secret keys among a key's objects.
func deviations(k Key, own []Observed) []string {
	var all []string
	for _, o := range own {
		if o.rank() == 0 {
			all = append(all, o.Deviations(k)...)
		}
	}
	return all
}

// observeAll describes every object of the token that is no session object.
func (u *unit) observeAll() ([]Observed, error) {
	handles, err := u.find(pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true))
	if err != nil {
		return nil, err
	}
	var all []Observed
	for _, h := range handles {
		o, err := u.observe(h)
		var known *Error
		if errors.As(err, &known) && known.Code == pkcs11.CKR_OBJECT_HANDLE_INVALID {
			continue // somebody has just destroyed it
		}
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// observe describes one object.
func (u *unit) observe(h handle) (Observed, error) {
	o := Observed{Flags: map[string]bool{}}
	class, err := u.attributes(h, pkcs11.CKA_CLASS)
	if err != nil {
		return o, err
	}
	o.Class = nameOf(classNamesOf, ulong(class[0]))
	for typ, name := range flagNames {
		b, err := u.optional(h, typ)
		if err != nil {
			return o, err
		}
		if len(b) == 1 {
			o.Flags[name] = b[0] != 0
		}
	}
	id, err1 := u.optional(h, pkcs11.CKA_ID)
	label, err2 := u.optional(h, pkcs11.CKA_LABEL)
	if err := errors.Join(err1, err2); err != nil {
		return o, err
	}
	o.ID, o.Label = hex.EncodeToString(id), string(label)
	if o.rank() == 2 {
		return o, nil
	}
	return o, u.observeKey(&o, h)
}

// observeKey adds what only keys have.
func (u *unit) observeKey(o *Observed, h handle) error {
	kind, err := u.attributes(h, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return err
	}
	keyType := ulong(kind[0])
	o.KeyType = nameOf(keyTypeNames, keyType)
	gen, err1 := u.optional(h, pkcs11.CKA_KEY_GEN_MECHANISM)
	allowed, err2 := u.optional(h, pkcs11.CKA_ALLOWED_MECHANISMS)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if m := ulong(gen); len(gen) != 0 && m != pkcs11.CK_UNAVAILABLE_INFORMATION && m != ^uint(0) {
		o.GenMechanism = nameOf(mechanismNames, m)
	}
	o.Allowed = mechanismList(allowed)
	if o.Bits, err = u.bitsOf(h, keyType); err != nil {
		return err
	}
	if o.Class == ClassPublicKey {
		return u.observePublic(o, h, keyType)
	}
	value := uint(pkcs11.CKA_VALUE)
	if keyType == pkcs11.CKK_RSA {
		value = pkcs11.CKA_PRIVATE_EXPONENT
	}
	b, err := u.optional(h, value)
	o.Readable = len(b) > 0
	secret.Wipe(b)
	return err
}

// observePublic adds the public key's digest, if its kind is known.
func (u *unit) observePublic(o *Observed, h handle, keyType uint) error {
	pub, err := u.publicKey(h, keyType)
	var known *Error
	if errors.As(err, &known) && known.Class() != ClassRequest {
		return err
	}
	if err != nil {
		return nil // of a kind that nothing here uses
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	o.SPKISHA256 = hex.EncodeToString(sum[:])
	return nil
}

// bitsOf is a key's length; 0 where the token does not say.
func (u *unit) bitsOf(h handle, keyType uint) (int, error) {
	switch keyType {
	case pkcs11.CKK_RSA:
		n, err := u.optional(h, pkcs11.CKA_MODULUS)
		return len(n) * 8, err
	case pkcs11.CKK_EC:
		curve, err := u.optional(h, pkcs11.CKA_EC_PARAMS)
		if string(curve) == string(oidP256) {
			return 256, err
		}
		return 0, err
	case pkcs11.CKK_DES3:
		return 192, nil
	default:
		n, err := u.optional(h, pkcs11.CKA_VALUE_LEN)
		if len(n) == 0 {
			return 0, err
		}
		return int(ulong(n)) * 8, err
	}
}

// optional reads an attribute that an object may not have, or not show: nil then.
func (u *unit) optional(h handle, typ uint) ([]byte, error) {
	at, err := u.attributes(h, typ)
	var known *Error
	if errors.As(err, &known) && known.Class() == ClassRequest {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return at[0], nil
}

// mechanismList reads CKA_ALLOWED_MECHANISMS: CK_ULONGs one after the other.
func mechanismList(b []byte) []string {
	size := len(ulongBytes(0))
	var all []string
	for ; len(b) >= size; b = b[size:] {
		all = append(all, nameOf(mechanismNames, ulong(b[:size])))
	}
	slices.Sort(all)
	return all
}

// Deviations says how a private or secret key differs from the template that keys of k's
// purpose are made from: every flag, and the mechanisms it allows. What the token does not
// say is no deviation; it is missing in Flags and Allowed. Of an imported key nobody asks
// that it never was outside.
func (o Observed) Deviations(k Key) []string {
	var wrong []string
	template := templateFor(k.Name, k.ckaID(), k.Purpose, k.Algorithm)
	want := map[string]bool{"MODIFIABLE": false, "COPYABLE": false}
	if k.Provenance == Generated {
		want["LOCAL"], want["ALWAYS_SENSITIVE"], want["NEVER_EXTRACTABLE"] = true, true, true
	}
	for typ := range uses {
		want[flagNames[typ]] = false
	}
	for _, a := range template.private {
		if name, ok := flagNames[a.Type]; ok && len(a.Value) == 1 {
			want[name] = a.Value[0] != 0
		}
	}
	for name, flag := range want {
		if is, said := o.Flags[name]; said && is != flag {
			wrong = append(wrong, fmt.Sprintf("%s is %t", name, is))
		}
	}
	if o.Readable {
		wrong = append(wrong, "its value can be read")
	}
	if o.Label != k.Name && k.Provenance == Generated {
		wrong = append(wrong, "its label is not its name")
	}
	var allowed []string
	for _, m := range template.allowed {
		allowed = append(allowed, nameOf(mechanismNames, m))
	}
	if o.Allowed != nil && !slices.Equal(o.Allowed, allowed) {
		wrong = append(wrong, fmt.Sprintf("it allows the mechanisms %v", o.Allowed))
	}
	if k.Provenance == Generated && o.GenMechanism != "" && o.GenMechanism != nameOf(mechanismNames, template.mechanism) {
		wrong = append(wrong, "it was made by "+o.GenMechanism)
	}
	slices.Sort(wrong)
	return wrong
}
