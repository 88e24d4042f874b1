//go:build console

package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A browserPage is a page that the browser looks at. Of a foreign one, which is not made of
// the console's own templates, it is only asked that it loads without a complaint and needs
// nothing from elsewhere.
type browserPage struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Foreign bool   `json:"foreign"`
}

// Chromium has nothing to complain of on any page, in light, dark, narrow, printed and without
// scripts; nothing is asked for elsewhere; axe-core finds no violation; and the keyboard
// reaches everything. The screenshots are for people: CONSOLE_SHOTS says where to keep them.
func TestConsoleInABrowser(t *testing.T) {
	modules := consoleModules(t)
	shots := os.Getenv("CONSOLE_SHOTS")
	if shots == "" {
		shots = t.TempDir()
	}
	s := start(t, t.TempDir(), nil, nil)
	demo := exec.Command(mintmark, "demo", "--data", s.dir)
	if out, err := demo.CombinedOutput(); err != nil {
		t.Fatalf("mintmark demo: %v\n%s", err, out)
	}
	token, pass := s.demoReferences()
	s.proposeToDev()
	// The charts are there when the second sample is.
	eventually(t, time.Minute, func() error {
		if a := s.get(s.info.AdminURL + "/console/activity"); !bytes.Contains(a.body, []byte("<polyline")) {
			return fmt.Errorf("no chart yet: %d", a.status)
		}
		return nil
	})
	pages := []browserPage{
		{Name: "overview", Path: "/console/"}, {Name: "keys", Path: "/console/keys"}, {Name: "key", Path: "/console/keys/dev-pass"}, {Name: "activity", Path: "/console/activity"},
		{Name: "log", Path: "/console/log"}, {Name: "search", Path: "/console/log?kind=operation&since=2026-01-01T00:00"}, {Name: "entry", Path: "/console/log/3"},
		{Name: "lookup", Path: "/console/lookup"}, {Name: "card", Path: "/console/lookup?kind=card&tenant=dev&reference=" + s.info.Cards[0].ExternalCardID},
		{Name: "token", Path: "/console/lookup?kind=token&tenant=dev&reference=" + token}, {Name: "pass", Path: "/console/lookup?kind=pass&tenant=dev&" + pass},
		{Name: "changes", Path: "/console/changes"}, {Name: "report", Path: "/console/report"}, {Name: "docs", Path: "/docs/", Foreign: true},
	}
	in, err := json.Marshal(map[string]any{"modules": modules, "browser": chromium(t), "shots": shots, "origin": s.info.AdminURL, "pages": pages})
	if err != nil {
		t.Fatal(err)
	}
	browse := exec.Command("node", filepath.Join("console", "browse.js"))
	var stderr bytes.Buffer
	browse.Stdin, browse.Stderr = bytes.NewReader(in), &stderr
	result, err := browse.Output()
	if err != nil {
		t.Fatalf("browse.js: %v\n%s", err, stderr.Bytes())
	}
	var out struct {
		Faults []string
		Loads  int
	}
	if err := json.Unmarshal(result, &out); err != nil {
		t.Fatal(err)
	}
	for _, f := range out.Faults {
		t.Error(f)
	}
	loads := 0
	for _, p := range pages {
		loads += map[bool]int{false: 5, true: 2}[p.Foreign]
	}
	if out.Loads != loads {
		t.Errorf("pages were loaded %d times, not %d", out.Loads, loads)
	}
	t.Logf("%d pages, loaded %d times", len(pages), out.Loads)
}

// demoReferences gives the wallet token that the demo left, and the parameters of the
// development server's pass.
func (s *server) demoReferences() (token, pass string) {
	s.t.Helper()
	token = regexp.MustCompile(`DDEMO[A-Z0-9]+`).FindString(readFile(s.t, filepath.Join(s.dir, "notices.jsonl")))
	var info struct {
		Passes struct{ PassTypeIdentifier, SerialNumber string }
	}
	if err := json.Unmarshal([]byte(readFile(s.t, filepath.Join(s.dir, "dev.json"))), &info); err != nil || token == "" {
		s.t.Fatalf("the demo left nothing to look up: %q, %v", token, err)
	}
	return token, url.Values{"type": {info.Passes.PassTypeIdentifier}, "reference": {info.Passes.SerialNumber}}.Encode()
}

// proposeToDev gives the issuer client the right to propose changes, and has it propose two and
// take one back.
func (s *server) proposeToDev() {
	s.t.Helper()
	file := filepath.Join(s.dir, "mintmark.yaml")
	text := strings.Replace(readFile(s.t, file), "readEnablement]", "readEnablement, proposeChanges]", 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.hangup("configuration reloaded")
	var made struct{ ID string }
	for _, percentage := range []int{10, 20} {
		document := map[string]any{"tenant": "dev", "environment": "development", "rules": []any{map[string]any{"percentage": percentage}}}
		s.admin("/v1/changes", map[string]any{"kind": "enablement", "document": document}, http.StatusCreated, &made)
	}
	s.admin("/v1/changes/"+made.ID+"/reject", map[string]any{}, http.StatusOK, &made)
}

// admin posts to the admin listener as the issuer client.
func (s *server) admin(path string, body any, status int, into any) {
	s.t.Helper()
	a, err := call{method: http.MethodPost, url: s.info.AdminURL + path, token: s.info.Clients.Issuer.Token, body: body}.by(client)
	if err != nil || a.status != status {
		s.t.Fatalf("%s: %d %s, %v", path, a.status, a.body, err)
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		s.t.Fatal(err)
	}
}

// consoleModules installs what package-lock.json names, and gives the folder.
func consoleModules(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(readFile(t, filepath.Join("console", name))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	install := exec.Command("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return filepath.Join(dir, "node_modules")
}

// chromium is where the browser is.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("no Chromium: tools/ensure.sh chromium")
	return ""
}
