//go:build bench

package integration

import (
	"bufio"
	"crypto"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/hsm"
)

// floor is the least that a Go service can do for the same request (bench/floor), on the
// same token and key; with record it verifies and commits too. of is a server whose key set
// has the key.
func (r *benchRig) floor(name, raw string, of *server, record bool) bench.Subject {
	r.t.Helper()
	dir := r.t.TempDir()
	program := filepath.Join(dir, "floor")
	if out, err := exec.Command("go", "build", "-o", program, "../bench/floor").CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	client, own := filepath.Join(dir, "client.pem"), filepath.Join(dir, "own.pem")
	if err := errors.Join(os.WriteFile(client, []byte(r.issuer.publicPEM()), 0o600),
		os.WriteFile(own, []byte(publicPEM(r.t, merchantKey(of))), 0o600)); err != nil {
		r.t.Fatal(err)
	}
	args := []string{"-module", r.dev.info.HSM.Module, "-token-label", r.dev.info.HSM.TokenLabel, "-pin-file", r.dev.info.HSM.PinFile,
		"-rsa-id", r.id(hsm.MerchantJWT), "-client-key", client}
	if record {
		args = append(args, "-public-key", own, "-record", filepath.Join(dir, "floor.db"))
	}
	s := &server{t: r.t, dir: dir}
	s.cmd = exec.Command(program, args...)
	s.cmd.Env, s.cmd.Stderr = append(os.Environ(), "SOFTHSM2_CONF="+r.dev.info.HSM.Softhsm2Conf), os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	s.info.BaseURL = "http://" + strings.TrimSpace(address)
	return r.rs256(name, raw, s)
}

// merchantKey is the public half of a server's merchant-jwt key.
func merchantKey(s *server) crypto.PublicKey {
	s.t.Helper()
	for _, k := range s.jwks().Keys {
		if k.Algorithm == "RS256" {
			return k.Key
		}
	}
	s.t.Fatal("no RS256 key is published")
	return nil
}
