//go:build bench

package integration

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mintmark/mintmark/hsm"
)

// floor is the least that a Go service can do for the same requests (bench/floor), on the
// same token and keys, through a module; change is what is different about its configuration.
func (r *benchRig) floor(module string, change map[string]any) *server {
	r.t.Helper()
	dir := r.t.TempDir()
	clients := map[string]string{}
	for _, p := range []*party{r.issuer, r.merch} {
		path := filepath.Join(dir, p.kid+".pem")
		if err := os.WriteFile(path, []byte(p.publicPEM()), 0o600); err != nil {
			r.t.Fatal(err)
		}
		clients[p.iss] = path
	}
	key := func(p hsm.Purpose) map[string]string {
		return map[string]string{"ID": r.id(p), "Public": filepath.Join(r.dev.dir, "keys", string(p)+".pem")}
	}
	config := map[string]any{
		"Module": module, "TokenLabel": r.dev.info.HSM.TokenLabel, "PINFile": r.dev.info.HSM.PinFile, "Sessions": 4,
		"Clients": clients, "MerchantJWT": key(hsm.MerchantJWT), "ProximityToken": key(hsm.ProximityToken), "TAVSigning": key(hsm.TAVSigning),
		"CardIndexID": r.id(hsm.CardIndex), "CardVaultID": r.id(hsm.CardVault), "Intermediate": r.dev.info.Apple.SubCert,
		"Record": filepath.Join(dir, "floor.db"),
	}
	for name, value := range change {
		config[name] = value
	}
	text, err := json.Marshal(config)
	path := filepath.Join(dir, "floor.json")
	if err := errors.Join(err, os.WriteFile(path, text, 0o600)); err != nil {
		r.t.Fatal(err)
	}
	return r.startFloor(path)
}

// startFloor runs the program until the test ends.
func (r *benchRig) startFloor(config string) *server {
	r.t.Helper()
	program := filepath.Join(r.dev.dir, "floor")
	if _, err := os.Stat(program); err != nil {
		if out, err := exec.Command("go", "build", "-o", program, "../bench/floor").CombinedOutput(); err != nil {
			r.t.Fatalf("%v\n%s", err, out)
		}
	}
	s := &server{t: r.t, dir: filepath.Dir(config), cmd: exec.Command(program, config)}
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
	return s
}
