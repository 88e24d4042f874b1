package signer_test

import (
	"context"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/signer"
)

// A checkpoint's signature is made in the token and verified by openssl.
func TestCheckpointIsSignedInTheToken(t *testing.T) {
	token := hsmtest.New(t)
	text := []byte("bank.example/mintmark/test\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n")
	sig, spki, err := signer.New(token.Token).SignCheckpoint(context.Background(), text)
	if err != nil {
		t.Fatal(err)
	}
	if n := token.CallsOf("sign"); n != 1 {
		t.Errorf("the token signed %d times", n)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{
		"text": text, "sig": sig, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "dgst", "-sha256", "-verify", "key.pem", "-signature", "sig", "text")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("openssl: %v\n%s", err, out)
	}
}

func TestCheckpointWithoutAKeyIsNotSigned(t *testing.T) {
	token := hsmtest.New(t, hsmtest.Without(hsm.AuditCheckpoint))
	sig, _, err := signer.New(token.Token).SignCheckpoint(context.Background(), []byte("text"))
	var unusable *hsm.KeyError
	if !errors.As(err, &unusable) || sig != nil {
		t.Errorf("%x, %v", sig, err)
	}
}
