//go:build passpeers

package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/passkit"
)

// Libraries that others made take every style of pass that is served, by their own checks.
func TestPeersTakeWhatIsServed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"package.json", "check.js"} {
		b, err := os.ReadFile(filepath.Join("peers", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm install: %v\n%s", err, out)
	}
	p := newPassServer(t, "    disabled: true\n")
	config, err := os.ReadFile(p.config)
	if err != nil {
		t.Fatal(err)
	}
	// As in production: pass-js wants it.
	config = bytes.Replace(config, []byte("publicURL: "+p.base), []byte("publicURL: https://passes.example"), 1)
	if err := os.WriteFile(p.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	p.run()
	passes := map[string]string{}
	for _, passType := range []string{rsaPasses, ecPasses} {
		for _, style := range passkit.Styles() {
			token := p.putTemplate(passType, style)
			got := p.device("GET", "/passes/"+passType+"/"+string(style), token, "")
			if got.status != 200 {
				t.Fatalf("fetch answered %d", got.status)
			}
			openedPass(t, got.body, p.roots[passType])
			passes[passType+" "+string(style)] = base64.StdEncoding.EncodeToString(got.body)
		}
	}
	in, err := json.Marshal(map[string]any{"modules": filepath.Join(dir, "node_modules"), "passes": passes})
	if err != nil {
		t.Fatal(err)
	}
	check := exec.Command("node", filepath.Join(dir, "check.js"))
	var stderr bytes.Buffer
	check.Stdin, check.Stderr = bytes.NewReader(in), &stderr
	result, err := check.Output()
	if err != nil {
		t.Fatalf("check.js: %v\n%s", err, stderr.Bytes())
	}
	var out struct {
		Faults []string
		Checks int
	}
	if err := json.Unmarshal(result, &out); err != nil {
		t.Fatal(err)
	}
	for _, f := range out.Faults {
		t.Error(f)
	}
	t.Logf("%d passes, %d checks", len(passes), out.Checks)
	if out.Checks != 3*len(passes) {
		t.Errorf("%d checks of %d passes", out.Checks, len(passes))
	}
}

// putTemplate puts a style's template with its images, and gives the pass's token.
func (p *passServer) putTemplate(passType string, style passkit.Style) string {
	p.t.Helper()
	b, err := passkit.NewTemplate(style)
	if err != nil {
		p.t.Fatal(err)
	}
	files := map[string]string{}
	for name, content := range b.Files {
		if name == passkit.FilePass {
			continue
		}
		var asset struct{ SHA256 string }
		if err := json.Unmarshal(p.manage("PUT", "/assets", content, 200).body, &asset); err != nil {
			p.t.Fatal(err)
		}
		files[name] = asset.SHA256
	}
	var doc map[string]any
	if err := json.Unmarshal(b.Files[passkit.FilePass], &doc); err != nil {
		p.t.Fatal(err)
	}
	for _, set := range strings.Fields("formatVersion passTypeIdentifier serialNumber teamIdentifier") {
		delete(doc, set)
	}
	a := p.manage("PUT", "/passes/"+passType+"/"+string(style), map[string]any{"pass": doc, "files": files}, 201)
	var out struct {
		Pass struct{ AuthenticationToken string }
	}
	if err := json.Unmarshal(a.body, &out); err != nil {
		p.t.Fatal(err)
	}
	return out.Pass.AuthenticationToken
}
