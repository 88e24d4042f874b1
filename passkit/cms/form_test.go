package cms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/mintmark/mintmark/passkit/cms"
)

// signedData is the structure as encoding/asn1 reads it: another reader than ours.
type signedData struct {
	Version    int
	Digests    []algorithm `asn1:"set"`
	Content    struct{ Type asn1.ObjectIdentifier }
	Certs      asn1.RawValue `asn1:"optional,tag:0"`
	SignerInfo []struct {
		Version int
		ID      struct {
			Issuer asn1.RawValue
			Serial asn1.RawValue
		}
		Digest     algorithm
		Attributes asn1.RawValue `asn1:"tag:0"`
		Algorithm  algorithm
		Signature  []byte
	} `asn1:"set"`
}

type algorithm struct {
	ID         asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

func decode(t *testing.T, der []byte) signedData {
	t.Helper()
	var outer struct {
		Type asn1.ObjectIdentifier
		Data signedData `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(der, &outer); err != nil || len(rest) > 0 {
		t.Fatalf("not DER: %v, %d bytes left", err, len(rest))
	}
	return outer.Data
}

// attributes are the signed attributes, each in DER, in the order in which they stand.
func attributes(t *testing.T, der []byte) [][]byte {
	t.Helper()
	rest := decode(t, der).SignerInfo[0].Attributes.Bytes
	var found [][]byte
	for len(rest) > 0 {
		var a asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &a); err != nil {
			t.Fatal(err)
		}
		found = append(found, a.FullBytes)
	}
	return found
}

func TestTheFormIsThatOfApplesPasses(t *testing.T) {
	null := []byte{5, 0}
	for name, want := range map[string]struct {
		algorithm  string
		parameters []byte
	}{
		"RSA-2048": {"1.2.840.113549.1.1.1", null},
		"P-256":    {"1.2.840.10045.4.3.2", nil},
	} {
		t.Run(name, func(t *testing.T) {
			der := sign(t, signers()[name])
			d := decode(t, der)
			info := d.SignerInfo[0]
			if d.Version != 1 || info.Version != 1 {
				t.Errorf("versions %d and %d, want 1", d.Version, info.Version)
			}
			const sha256 = "2.16.840.1.101.3.4.2.1"
			if d.Digests[0].ID.String() != sha256 || info.Digest.ID.String() != sha256 || info.Digest.Parameters.FullBytes != nil {
				t.Errorf("digest %v, %v", d.Digests, info.Digest)
			}
			if info.Algorithm.ID.String() != want.algorithm || !bytes.Equal(info.Algorithm.Parameters.FullBytes, want.parameters) {
				t.Errorf("signature algorithm %v %x", info.Algorithm.ID, info.Algorithm.Parameters.FullBytes)
			}
			as := attributes(t, der)
			if len(as) != 3 || !slices.IsSortedFunc(as, bytes.Compare) {
				t.Errorf("%d attributes, in DER order: %v", len(as), slices.IsSortedFunc(as, bytes.Compare))
			}
		})
	}
}

func TestSameInputTimeAndRSAKeyGiveSameBytes(t *testing.T) {
	s := signers()["RSA-2048"]
	if !bytes.Equal(sign(t, s), sign(t, s)) {
		t.Error("two signatures differ")
	}
	sameSecond := must(cms.SignDetached(content, s, noon.Add(time.Second-1).In(time.FixedZone("", 3600))))
	if !bytes.Equal(sign(t, s), sameSecond) {
		t.Error("a fraction of a second or the zone changes the signature")
	}
}

func TestSigningTimeChangesItsTypeIn2050(t *testing.T) {
	for _, c := range []struct {
		at  time.Time
		tag byte
	}{
		{time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), 23}, // UTCTime
		{time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), 24},      // GeneralizedTime
		{time.Date(2050, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)), 23},
	} {
		der := must(cms.SignDetached(content, signers()["RSA-2048"], c.at))
		for _, a := range attributes(t, der) {
			var attribute struct {
				ID     asn1.ObjectIdentifier
				Values []asn1.RawValue `asn1:"set"`
			}
			if _, err := asn1.Unmarshal(a, &attribute); err != nil {
				t.Fatal(err)
			}
			if attribute.ID.String() == "1.2.840.113549.1.9.5" && attribute.Values[0].Tag != int(c.tag) {
				t.Errorf("%v has tag %d, want %d", c.at, attribute.Values[0].Tag, c.tag)
			}
		}
		if at, _ := must(cms.Parse(der)).SigningTime(); !at.Equal(c.at) {
			t.Errorf("%v reads back as %v", c.at, at)
		}
	}
}

// reorder writes the signed attributes in another order and signs them so, as tools do
// that do not sort; or leaves the signature, which was over the sorted ones.
func reorder(t *testing.T, s cms.Signer, signAgain bool) []byte {
	t.Helper()
	der := sign(t, s)
	as := attributes(t, der)
	turned := slices.Concat(as[2], as[0], as[1])
	out := bytes.Replace(der, slices.Concat(as...), turned, 1)
	if signAgain {
		set, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: turned})
		if err != nil {
			t.Fatal(err)
		}
		h := crypto.SHA256.New()
		h.Write(set)
		signature := must(s.Key.Sign(rand.Reader, h.Sum(nil), crypto.SHA256))
		out = bytes.Replace(out, decode(t, der).SignerInfo[0].Signature, signature, 1)
	}
	return out
}

func TestAttributesInAnotherOrderVerifyAndAreReported(t *testing.T) {
	for _, signAgain := range []bool{true, false} {
		signed, err := cms.Parse(reorder(t, signers()["RSA-2048"], signAgain))
		if err != nil {
			t.Fatal(err)
		}
		if err := signed.VerifyDetached(content); err != nil {
			t.Errorf("signed as sent: %v: %v", signAgain, err)
		}
		if !slices.Contains(signed.Deviations, cms.AttributesUnordered) {
			t.Errorf("deviations %v", signed.Deviations)
		}
	}
}
