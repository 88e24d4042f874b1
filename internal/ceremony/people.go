package ceremony

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/mintmark/mintmark/passkit/cms"
)

// Namespace is that of the people's SSH signatures: a signature made for something else
// counts for nothing here.
//
//	ssh-keygen -Y sign -n mintmark-ceremony -f ~/.ssh/id_ed25519 ceremony.yaml
//	openssl cms -sign -binary -in ceremony.yaml -signer grace.pem -inkey grace.key -outform DER -out ceremony.yaml.p7s
const Namespace = "mintmark-ceremony"

// A Signed is a person's signature over the plan's file, verified.
type Signed struct {
	Person    string `json:"person"`
	Key       string `json:"key"`       // what it was made with: ssh and the SHA-256 fingerprint, or x509 and the certificate's SHA-256
	Signature []byte `json:"signature"` // as it was given
}

func (s Signed) equal(other Signed) bool {
	return s.Person == other.Person && s.Key == other.Key && bytes.Equal(s.Signature, other.Signature)
}

// ErrSignatures is wrapped by what is wrong with the people's signatures.
var ErrSignatures = errors.New("the ceremony is not signed by its people")

// Verify makes sure that every person of the plan, which was checked, has signed its file,
// each with their own key. Which signature is whose is found out.
func (p *Plan) Verify(signatures [][]byte, now time.Time) ([]Signed, error) {
	var all []Signed
	for _, person := range p.People {
		var found *Signed
		for _, sig := range signatures {
			if key, err := person.verify(p.text, sig, now); err == nil {
				found = &Signed{Person: person.Name, Key: key, Signature: sig}
				break
			}
		}
		if found == nil {
			return nil, fmt.Errorf("%w: no signature is %s's over this file", ErrSignatures, person.Name)
		}
		all = append(all, *found)
	}
	return all, nil
}

// checkPeople reports what is wrong with the people: too few, or one in two roles.
func (p *Plan) checkPeople() []error {
	var wrong []error
	if len(p.People) < 2 {
		wrong = append(wrong, errors.New("people must be two or more"))
	}
	seen := map[string]bool{}
	for i, person := range p.People {
		key, err := person.key()
		name := strings.ToLower(strings.Join(strings.Fields(person.Name), " "))
		switch {
		case name == "":
			wrong = append(wrong, fmt.Errorf("people[%d].name is missing", i))
		case err != nil:
			wrong = append(wrong, fmt.Errorf("people[%d] (%s): %w", i, person.Name, err))
		case seen[name] || seen[key]:
			wrong = append(wrong, fmt.Errorf("people[%d] (%s): the name or the key is another person's too", i, person.Name))
		}
		seen[name], seen[key] = true, true
	}
	return wrong
}

// key identifies a person's public key, in whichever form it is given.
func (p Person) key() (string, error) {
	switch {
	case (p.SSH == "") == (p.Certificate == ""):
		return "", errors.New("one of ssh and certificate is needed")
	case p.SSH != "":
		pub, err := p.sshKey()
		if err != nil {
			return "", err
		}
		// The same key in a certificate is the same key.
		return keyDigest(pub.(ssh.CryptoPublicKey).CryptoPublicKey()) // sshKey gives no other
	default:
		c, err := p.x509()
		if err != nil {
			return "", err
		}
		return keyDigest(c.PublicKey)
	}
}

// minRSA is the shortest RSA modulus of a person's key, in bits (NIST SP 800-131A rev. 2).
const minRSA = 2048

// keyDigest is the SHA-256 of a person's public key as an SPKI, and refuses a key that others
// could sign with.
func keyDigest(pub any) (string, error) {
	if k, ok := pub.(*rsa.PublicKey); ok && k.N.BitLen() < minRSA {
		return "", fmt.Errorf("the RSA key has %d bits, and must have %d", k.N.BitLen(), minRSA)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil { // DSA, for one, which signs SHA-1 in SSH
		return "", errors.New("the key is of no kind that is taken")
	}
	return digest(der), nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (p Person) sshKey() (ssh.PublicKey, error) {
	pub, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(p.SSH))
	if err != nil || len(options) != 0 || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("ssh must be one public key: its type and Base64")
	}
	if _, ok := pub.(ssh.CryptoPublicKey); !ok {
		return nil, fmt.Errorf("ssh is of the type %s, which is not taken", pub.Type())
	}
	return pub, nil
}

func (p Person) x509() (*x509.Certificate, error) {
	block, rest := pem.Decode([]byte(p.Certificate))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("certificate must be one certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// verify reports with which key the person signed text.
func (p Person) verify(text, sig []byte, now time.Time) (string, error) {
	if p.SSH != "" {
		return p.verifySSH(text, sig)
	}
	return p.verifyCMS(text, sig, now)
}

// sshsig is an SSH signature without its magic (OpenSSH's PROTOCOL.sshsig).
type sshsig struct {
	Version   uint32
	PublicKey []byte
	Namespace string
	Reserved  []byte
	Hash      string
	Signature []byte
}

// signedSSH is what such a signature is over, behind the magic.
type signedSSH struct {
	Namespace string
	Reserved  []byte
	Hash      string
	Digest    []byte
}

const sshMagic = "SSHSIG"

func (p Person) verifySSH(text, sig []byte) (string, error) {
	pub, err := p.sshKey()
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(sig)
	if block == nil || block.Type != "SSH SIGNATURE" || !bytes.HasPrefix(block.Bytes, []byte(sshMagic)) {
		return "", errors.New("not an SSH signature")
	}
	var s sshsig
	var inner ssh.Signature
	if ssh.Unmarshal(block.Bytes[len(sshMagic):], &s) != nil || ssh.Unmarshal(s.Signature, &inner) != nil {
		return "", errors.New("not an SSH signature")
	}
	switch {
	case s.Version != 1 || s.Namespace != Namespace:
		return "", fmt.Errorf("the signature is for another namespace than %s", Namespace)
	case !bytes.Equal(s.PublicKey, pub.Marshal()):
		return "", errors.New("the signature is another key's")
	case inner.Format == ssh.KeyAlgoRSA:
		return "", errors.New("the signature is made with SHA-1")
	}
	over := signedSSH{Namespace: s.Namespace, Reserved: s.Reserved, Hash: s.Hash}
	switch s.Hash {
	case "sha512":
		sum := sha512.Sum512(text)
		over.Digest = sum[:]
	case "sha256":
		sum := sha256.Sum256(text)
		over.Digest = sum[:]
	default:
		return "", errors.New("the signature's hash is neither sha512 nor sha256")
	}
	if err := pub.Verify(append([]byte(sshMagic), ssh.Marshal(over)...), &inner); err != nil {
		return "", errors.New("the signature does not verify")
	}
	return "ssh " + ssh.FingerprintSHA256(pub), nil
}

func (p Person) verifyCMS(text, sig []byte, now time.Time) (string, error) {
	c, err := p.x509()
	if err != nil {
		return "", err
	}
	if block, _ := pem.Decode(sig); block != nil {
		sig = block.Bytes
	}
	sd, err := cms.Parse(sig)
	if err != nil {
		return "", err
	}
	for _, d := range sd.Deviations {
		if d == cms.WeakDigest {
			return "", errors.New("the signature is made with SHA-1")
		}
	}
	signer, err := sd.Signer()
	switch {
	case err != nil:
		return "", err
	case !signer.Equal(c):
		return "", errors.New("the signature is another certificate's")
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return "", errors.New("the certificate is not valid now")
	}
	if err := sd.VerifyDetached(text); err != nil {
		return "", err
	}
	return "x509 " + digest(c.Raw), nil
}
