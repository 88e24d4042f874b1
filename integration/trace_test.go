//go:build trace

package integration

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/sha256"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/hsm"
)

func init() { buildTags = "trace" }

// A binary that was built for it shows every step of a test card's sealing, and each step
// leads to the next; for a card of any other product it answers 422, and without being asked
// it shows nothing.
func TestTraceOfATestCard(t *testing.T) {
	s := newSite(t, hsm.TAVSigning, hsm.CardVault, hsm.CardIndex)
	who := tenant{name: "a", pan: "5204245250001488"}
	who.backend = newParty(t, "backend-a", sharedAudience)
	who.backend.sub = "shared-user"
	s.write("backend-a.pem", who.backend.publicPEM())
	serve := func(product string) *tenancy {
		s.configure(`
roles: [issuer]
api: {listen: "127.0.0.1:0"}
clients:
  - issuer: backend-a
    tenant: a
    audience: ` + sharedAudience + `
    keys: [{kid: backend-a-1, publicKeyFile: backend-a.pem}]
    rights: [signCards]
`)
		text := readFile(t, filepath.Join(s.dir, "mintmark.yaml"))
		products := "testRootFile: apple/apple-root.pem, products: [{name: mastercard, network: mastercard, configuration: 1, activation: tav" + product + "}]"
		s.write("mintmark.yaml", strings.Replace(text, "testRootFile: apple/apple-root.pem", products, 1))
		w := &tenancy{server: s.serve()}
		apple := filepath.Join(s.dir, "apple")
		w.info.Apple.LeafCert, w.info.Apple.SubCert = filepath.Join(apple, "apple-leaf.pem"), filepath.Join(apple, "apple-sub.pem")
		w.apple = s.apple
		return w
	}
	s.storeCards(who)
	const path = "/issuer/push-provisioning/signed-cards"
	w := serve(", test: true")
	a := w.send(path, who.backend.token(nil), w.newRequest().with(request{"trace": true}))
	var out struct {
		EphemeralPublicKey, EncryptedData []byte
		Trace                             struct {
			AppleEnvironment                                                 string
			ApplePublicKey, Payload, EphemeralPublicKey, EphemeralPrivateKey []byte
			KDFInput, AESKey, EncryptedData                                  []byte
		}
	}
	a.into(t, &out)
	step := out.Trace
	if step.AppleEnvironment != "test" || !bytes.Equal(step.EphemeralPublicKey, out.EphemeralPublicKey) || !bytes.Equal(step.EncryptedData, out.EncryptedData) {
		t.Errorf("the trace is of something else: %s", a.body)
	}
	private, err := ecdh.P256().NewPrivateKey(step.EphemeralPrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	to, err := ecdh.P256().NewPublicKey(step.ApplePublicKey)
	if err != nil {
		t.Fatal(err)
	}
	z, err := private.ECDH(to)
	if err != nil || !bytes.Equal(private.PublicKey().Bytes(), step.EphemeralPublicKey) || !bytes.Contains(step.KDFInput, z) {
		t.Errorf("agreement: %v", err)
	}
	key := sha256.Sum256(step.KDFInput)
	if !bytes.Equal(key[:], step.AESKey) {
		t.Error("the AES key is not that of the input")
	}
	block, err := aes.NewCipher(step.AESKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	clear, err := gcm.Open(nil, make([]byte, 12), step.EncryptedData, nil)
	if err != nil || !bytes.Equal(clear, step.Payload) {
		t.Errorf("%v: it holds %q, the trace says %q", err, clear, step.Payload)
	}
	if got := w.openedPAN(t, a); got != who.pan {
		t.Error("Apple opens another card")
	}
	if a := w.send(path, who.backend.token(nil), w.newRequest()); a.status != 200 || bytes.Contains(a.body, []byte("trace")) {
		t.Errorf("without being asked: %d %s", a.status, a.body)
	}
	w.stop() // what it logged may still be on its way
	for where, content := range map[string]string{"the log": w.stderr.String(), "the database": readFile(t, filepath.Join(s.dir, "mintmark.db"))} {
		if strings.Contains(content, who.pan) {
			t.Errorf("the card's number stands in %s", where)
		}
	}
	w = serve("")
	if a := w.send(path, who.backend.token(nil), w.newRequest().with(request{"trace": true})); a.status != 422 || a.problem() != "card" {
		t.Errorf("a card of no test product: %d %s", a.status, a.body)
	}
}
