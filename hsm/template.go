package hsm

import (
	"encoding/binary"
	"math/bits"

	"github.com/miekg/pkcs11"
)

// Every attribute that matters is set, also where the standard has a default: modules
// differ in theirs, and a flag left out was seen to come out true (a signing key that
// could DECRYPT and UNWRAP).

// ephemeralPublicTemplate is the public half of a key agreement's own pair.
func ephemeralPublicTemplate() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256), // the curve of Apple's keys
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),       // gone with the session, at the latest
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),     // public by nature
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),      // an agreement's key verifies nothing
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false), // and encrypts nothing by itself
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),    // and wraps nothing
	}
}

// ephemeralPrivateTemplate is the private half: it derives, and that is all.
func ephemeralPrivateTemplate() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_EC),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),       // never written to the token
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),      // seen only after login
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),    // its value is never shown
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), // nor wrapped
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),       // its one use
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),        // else it could sign as somebody
		pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false), // not its use
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),  // not its use
	}
}

// sharedSecretTemplate is Z. Only read-and-wipe may read it.
func sharedSecretTemplate(way kdfWay) []*pkcs11.Attribute {
	readable := way == kdfReadAndWipe
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),             // the whole X coordinate
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),              // gone with the session
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),             // seen only after login
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, !readable),      // unread, unless there is no other way
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, readable),     // likewise
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, way == kdfInToken), // the chain derives from it
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),            // it is no cipher key
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),            // it is no cipher key
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),               // it is no MAC key
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),             // it is no MAC key
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),               // it wraps nothing
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),             // it unwraps nothing
	}
}

// concatenationTemplate is an intermediate of the in-token chain. NSS does not inherit
// SENSITIVE and EXTRACTABLE from the base key, so that each step says them again, and
// gives every use to a key of which nothing is said.
func concatenationTemplate() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),       // gone with the session
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),      // seen only after login
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),    // unread
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), // unread
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true),       // the next step derives from it
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),     // it is no cipher key
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),     // it is no cipher key
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),        // it is no MAC key
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),      // it is no MAC key
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),        // it wraps nothing
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),      // it unwraps nothing
	}
}

// contentKeyTemplate is the AES key at the chain's end.
func contentKeyTemplate() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),      // AES-256
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),       // gone with the session
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),      // seen only after login
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),    // unread
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), // unread
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),      // its one use, once
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),     // Apple decrypts
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),      // the chain ends here
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),        // it is no MAC key
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),      // it is no MAC key
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),        // it wraps nothing
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),      // it unwraps nothing
	}
}

// A keyTemplate describes a long-lived key to be made in the token.
type keyTemplate struct {
	mechanism uint
	public    []*pkcs11.Attribute // nil for secret keys
	private   []*pkcs11.Attribute // or secret
	// allowed are the mechanisms the key may be used with (CKA_ALLOWED_MECHANISMS).
	allowed []uint
}

// templateFor gives the template of a new key.
func templateFor(name string, id []byte, p Purpose, a Algorithm) keyTemplate {
	common := func() []*pkcs11.Attribute {
		return []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),       // it lives in the token
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, name),       // the keyring's name, for people
			pkcs11.NewAttribute(pkcs11.CKA_ID, id),            // what it is found by
			pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), // no flag can be turned later
		}
	}
	protected := append(common(),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),      // seen only after login
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),    // its value is never shown
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false), // nor wrapped
	)
	switch {
	case a.rsaBits() != 0:
		return keyTemplate{
			mechanism: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN,
			public: append(common(),
				pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, a.rsaBits()),
				pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}), // 65537, FIPS 186-5 A.1.1
				pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),                     // its one use
				pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
				pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_VERIFY_RECOVER, false),
			),
			private: append(protected,
				pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), // its one use
				pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
				pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
				pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
			),
			allowed: []uint{pkcs11.CKM_RSA_PKCS}, // crypto11 signs a DigestInfo of its own making
		}
	case a == P256 && p.agrees():
		return agreementTemplate(common(), protected)
	case a == TDEA:
		return tdeaTemplate(protected)
	case a == P256:
		return keyTemplate{
			mechanism: pkcs11.CKM_EC_KEY_PAIR_GEN,
			public: append(common(),
				pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256),
				pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), // its one use
				pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
				pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_VERIFY_RECOVER, false),
			),
			private: append(protected,
				pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),    // its one use
				pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false), // or it would agree on keys as well
				pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
				pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
			),
			allowed: []uint{pkcs11.CKM_ECDSA}, // crypto11 hands over the digest
		}
	case a == AES256:
		return keyTemplate{
			mechanism: pkcs11.CKM_AES_KEY_GEN,
			private: append(protected,
				pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
				pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), // its one use, both ways
				pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
				pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
				pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
				pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
			),
			allowed: []uint{pkcs11.CKM_AES_GCM},
		}
	default:
		return keyTemplate{
			mechanism: pkcs11.CKM_GENERIC_SECRET_KEY_GEN,
			private: append(protected,
				pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32), // SHA-256's own length (RFC 2104, 3)
				pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),    // its one use: computing
				pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false), // comparing is ours, in constant time
				pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
				pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
				pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
				pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
			),
			allowed: []uint{pkcs11.CKM_SHA256_HMAC},
		}
	}
}

// agreementTemplate is a static P-256 pair that derives, and that is all.
func agreementTemplate(common, protected []*pkcs11.Attribute) keyTemplate {
	return keyTemplate{
		mechanism: pkcs11.CKM_EC_KEY_PAIR_GEN,
		public: append(common,
			pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, oidP256),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false), // it verifies nothing
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, false),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY_RECOVER, false),
		),
		private: append(protected,
			pkcs11.NewAttribute(pkcs11.CKA_DERIVE, true), // its one use
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),  // or it would sign as well
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
		),
		allowed: []uint{pkcs11.CKM_ECDH1_DERIVE},
	}
}

// tdeaTemplate is a triple DES key that encrypts: the network decrypts.
func tdeaTemplate(protected []*pkcs11.Attribute) keyTemplate {
	return keyTemplate{
		mechanism: pkcs11.CKM_DES3_KEY_GEN,
		private: append(protected,
			pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), // its one use
			pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, false),
			pkcs11.NewAttribute(pkcs11.CKA_VERIFY, false),
			pkcs11.NewAttribute(pkcs11.CKA_WRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, false),
			pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false),
		),
		allowed: []uint{pkcs11.CKM_DES3_CBC},
	}
}

// narrowing are the attributes that not every module knows: the mechanisms a key may
// be used with, and that it cannot be copied into one with other flags.
func (k keyTemplate) narrowing() []*pkcs11.Attribute {
	var list []byte
	for _, m := range k.allowed {
		list = append(list, ulongBytes(m)...)
	}
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, list),
		pkcs11.NewAttribute(pkcs11.CKA_COPYABLE, false),
	}
}

// ulongBytes is a CK_ULONG as it stands in an attribute.
func ulongBytes(n uint) []byte {
	if bits.UintSize == 64 {
		return binary.NativeEndian.AppendUint64(nil, uint64(n))
	}
	return binary.NativeEndian.AppendUint32(nil, uint32(n))
}
