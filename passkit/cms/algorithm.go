package cms

import (
	"bytes"
	"crypto"
	_ "crypto/sha1"   // read only; see hashes
	_ "crypto/sha256" // the digest that is written
	_ "crypto/sha512" // read only
	"encoding/asn1"
)

// oid encodes an object identifier, tag included.
func oid(arcs ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		panic("cms: an object identifier of this package is none")
	}
	return der
}

var (
	oidData       = oid(1, 2, 840, 113549, 1, 7, 1) // RFC 5652, 4
	oidSignedData = oid(1, 2, 840, 113549, 1, 7, 2) // RFC 5652, 5.1

	oidContentType   = oid(1, 2, 840, 113549, 1, 9, 3) // RFC 5652, 11.1
	oidMessageDigest = oid(1, 2, 840, 113549, 1, 9, 4) // RFC 5652, 11.2
	oidSigningTime   = oid(1, 2, 840, 113549, 1, 9, 5) // RFC 5652, 11.3

	oidSHA256          = oid(2, 16, 840, 1, 101, 3, 4, 2, 1) // RFC 5754, 2.2
	oidRSAEncryption   = oid(1, 2, 840, 113549, 1, 1, 1)     // RFC 3370, 3.2
	oidECDSAWithSHA256 = oid(1, 2, 840, 10045, 4, 3, 2)      // RFC 5754, 3.3
	null               = []byte{tagNull, 0}
	algorithmSHA256    = element(tagSequence, oidSHA256)              // parameters absent: RFC 5754, 2
	algorithmRSA       = element(tagSequence, oidRSAEncryption, null) // NULL required: RFC 3370, 3.2
	algorithmECDSA     = element(tagSequence, oidECDSAWithSHA256)     // parameters absent: RFC 5754, 3.3
)

// hashes are the digests that are read. SHA-1 is among them because widely used tools
// still sign passes with it and devices take those; it is reported as a Deviation.
var hashes = []struct {
	oid  []byte
	hash crypto.Hash
}{
	{oidSHA256, crypto.SHA256},
	{oid(1, 3, 14, 3, 2, 26), crypto.SHA1},
	{oid(2, 16, 840, 1, 101, 3, 4, 2, 2), crypto.SHA384},
	{oid(2, 16, 840, 1, 101, 3, 4, 2, 3), crypto.SHA512},
}

// scheme is how a signature is made.
type scheme int

const (
	schemeRSA   scheme = 1 + iota // RSASSA-PKCS1-v1_5
	schemeECDSA                   // ASN.1 of r and s
)

// signatures are the signature algorithms that are read. hash 0 means: the digest
// algorithm's.
var signatures = []struct {
	oid    []byte
	scheme scheme
	hash   crypto.Hash
}{
	{oidRSAEncryption, schemeRSA, 0},
	{oid(1, 2, 840, 113549, 1, 1, 5), schemeRSA, crypto.SHA1},
	{oid(1, 2, 840, 113549, 1, 1, 11), schemeRSA, crypto.SHA256},
	{oid(1, 2, 840, 113549, 1, 1, 12), schemeRSA, crypto.SHA384},
	{oid(1, 2, 840, 113549, 1, 1, 13), schemeRSA, crypto.SHA512},
	{oid(1, 2, 840, 10045, 4, 1), schemeECDSA, crypto.SHA1},
	{oidECDSAWithSHA256, schemeECDSA, crypto.SHA256},
	{oid(1, 2, 840, 10045, 4, 3, 3), schemeECDSA, crypto.SHA384},
	{oid(1, 2, 840, 10045, 4, 3, 4), schemeECDSA, crypto.SHA512},
}

// digest is the hash of b.
func digest(h crypto.Hash, b []byte) []byte {
	d := h.New()
	d.Write(b)
	return d.Sum(nil)
}

// readAlgorithm takes an AlgorithmIdentifier (RFC 5280, 4.1.1.2) apart: the object
// identifier with its tag, and the parameters, nil if absent.
func readAlgorithm(r *reader) (id, parameters []byte, err error) {
	content, err := r.take(tagSequence)
	if err != nil {
		return nil, nil, err
	}
	inner := reader{content}
	tag, _, id, err := inner.any()
	if err != nil || tag != tagOID {
		return nil, nil, errDER
	}
	if len(inner.rest) == 0 {
		return id, nil, nil
	}
	_, _, parameters, err = inner.any()
	if err == nil {
		err = inner.end()
	}
	return id, parameters, err
}

// lookUpHash finds a digest algorithm; 0 if it is not known.
func lookUpHash(id []byte) crypto.Hash {
	for _, h := range hashes {
		if bytes.Equal(h.oid, id) {
			return h.hash
		}
	}
	return 0
}

// lookUpSignature finds a signature algorithm used with a digest; 0 if it is not known,
// or brings another digest.
func lookUpSignature(id []byte, digestHash crypto.Hash) scheme {
	for _, s := range signatures {
		if bytes.Equal(s.oid, id) && (s.hash == 0 || s.hash == digestHash) {
			return s.scheme
		}
	}
	return 0
}
