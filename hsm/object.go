package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"
)

// The classes of an Object, as PKCS#11 names them.
const (
	ClassPublicKey  = "CKO_PUBLIC_KEY"
	ClassPrivateKey = "CKO_PRIVATE_KEY"
	ClassSecretKey  = "CKO_SECRET_KEY"
)

// An Object is a key as it stands on the token, listed or not.
type Object struct {
	Class string // ClassPublicKey, ClassPrivateKey or ClassSecretKey
	ID    string // CKA_ID, hex
	Label string // CKA_LABEL

	handle handle
	pub    crypto.PublicKey // of a public key, if its kind is known
}

// keyClasses are the classes that hold keys.
var keyClasses = []struct {
	class uint
	name  string
}{
	{pkcs11.CKO_PRIVATE_KEY, ClassPrivateKey},
	{pkcs11.CKO_PUBLIC_KEY, ClassPublicKey},
	{pkcs11.CKO_SECRET_KEY, ClassSecretKey},
}

// objects lists the key objects of the token that match, in one pass a class. Searching
// for each key by itself costs the square of their number.
func (u *unit) objects(template ...*pkcs11.Attribute) ([]Object, error) {
	var all []Object
	for _, c := range keyClasses {
		handles, err := u.find(append([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, c.class), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		}, template...)...)
		if err != nil {
			return nil, err
		}
		for _, h := range handles {
			o, err := u.describe(c.class, h)
			if err != nil {
				return nil, err
			}
			o.Class = c.name
			all = append(all, o)
		}
	}
	return all, nil
}

// find gives the handles of all objects that match.
func (u *unit) find(template ...*pkcs11.Attribute) ([]handle, error) {
	if err := u.e.ctx.FindObjectsInit(u.s, template); err != nil {
		return nil, ckr("C_FindObjectsInit", err)
	}
	var all []handle
	for {
		some, _, err := u.e.ctx.FindObjects(u.s, 256)
		if err != nil {
			return nil, ckr("C_FindObjects", errors.Join(err, u.e.ctx.FindObjectsFinal(u.s)))
		}
		if len(some) == 0 {
			return all, ckr("C_FindObjectsFinal", u.e.ctx.FindObjectsFinal(u.s))
		}
		all = append(all, some...)
	}
}

func (u *unit) describe(class uint, h handle) (Object, error) {
	at, err := u.attributes(h, pkcs11.CKA_ID, pkcs11.CKA_LABEL, pkcs11.CKA_KEY_TYPE)
	if err != nil {
		return Object{}, err
	}
	o := Object{ID: hex.EncodeToString(at[0]), Label: string(at[1]), handle: h}
	if class == pkcs11.CKO_PUBLIC_KEY {
		// A public key of a kind we do not know has no pub and matches no pin.
		o.pub, err = u.publicKey(h, ulong(at[2]))
		var known *Error
		if errors.As(err, &known) && known.Class() != ClassRequest {
			return Object{}, err
		}
	}
	return o, nil
}

// attributes reads attributes in the order asked for.
func (u *unit) attributes(h handle, types ...uint) ([][]byte, error) {
	ask := make([]*pkcs11.Attribute, len(types))
	for i, t := range types {
		ask[i] = pkcs11.NewAttribute(t, nil)
	}
	got, err := u.e.ctx.GetAttributeValue(u.s, h, ask)
	if err != nil {
		return nil, ckr("C_GetAttributeValue", err)
	}
	values := make([][]byte, len(types))
	for i := range got {
		values[i] = got[i].Value
	}
	return values, nil
}

// publicKey reads a public key object of a known kind.
func (u *unit) publicKey(h handle, keyType uint) (crypto.PublicKey, error) {
	switch keyType {
	case pkcs11.CKK_RSA:
		at, err := u.attributes(h, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
		if err != nil {
			return nil, err
		}
		e := new(big.Int).SetBytes(at[1])
		if !e.IsInt64() || e.Int64() > 1<<31-1 || e.Int64() < 3 {
			return nil, errors.New("RSA public exponent out of range")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(at[0]), E: int(e.Int64())}, nil
	case pkcs11.CKK_EC:
		at, err := u.attributes(h, pkcs11.CKA_EC_PARAMS, pkcs11.CKA_EC_POINT)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(at[0], oidP256) {
			return nil, errors.New("EC key on a curve other than P-256")
		}
		point, err := parseECPoint(at[1])
		if err != nil {
			return nil, err
		}
		return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	default:
		return nil, fmt.Errorf("key type 0x%x is not known", keyType)
	}
}

// oidP256 is CKA_EC_PARAMS for P-256: the DER of its OID, 1.2.840.10045.3.1.7.
var oidP256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// parseECPoint gives the 65-byte uncompressed point from CKA_EC_POINT. PKCS#11 v2.40
// has it as a DER OCTET STRING; some modules give the point itself.
func parseECPoint(b []byte) ([]byte, error) {
	var point []byte
	if rest, err := asn1.Unmarshal(b, &point); err != nil || len(rest) != 0 {
		point = b
	}
	if _, err := ecdh.P256().NewPublicKey(point); err != nil {
		return nil, errors.New("CKA_EC_POINT is no uncompressed point of P-256")
	}
	return point, nil
}

// ulong reads a CK_ULONG attribute.
func ulong(b []byte) uint {
	switch len(b) {
	case 8:
		return uint(binary.NativeEndian.Uint64(b))
	case 4:
		return uint(binary.NativeEndian.Uint32(b))
	default:
		return ^uint(0)
	}
}
