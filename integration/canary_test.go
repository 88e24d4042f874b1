package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Card data and the PIN stand in no log, no metric, no error, no database and no other
// file, in no encoding, whatever the caller does.
func TestNoCardDataAnywhere(t *testing.T) {
	traces := newCollector(t)
	s := start(t, t.TempDir(), nil, []string{"MINTMARK_LOG_LEVEL=debug", traces.environment(), "MINTMARK_TRACING_ACCEPT_PARENT=true"})
	pin, err := os.ReadFile(s.info.HSM.PinFile)
	if err != nil {
		t.Fatal(err)
	}
	canaries := map[string]string{"the PIN": string(pin)}
	for i, card := range []struct{ pan, name string }{
		{"5204245250001488", "John Appleseed"}, {"5555555555554444", "O'Brien-Łukasz"}, {"6759649826438453", "Jane Appleseed"},
	} {
		canaries["PAN of "+s.info.Cards[i].ExternalCardID] = card.pan
		canaries["name of "+s.info.Cards[i].ExternalCardID] = card.name
	}
	canaries["expiry, as signed"] = "5204245250001488|1249"

	answers := s.provoke(t)
	answers["metrics"] = s.get(s.info.AdminURL + "/metrics").body
	answers["health"] = s.get(s.info.AdminURL + "/healthz").body
	s.addConsole(answers)
	s.stop()

	outputs := answers
	traces.mu.Lock() // the server does not wait without end for the answer to its last ones
	outputs["traces"] = bytes.Clone(traces.raw.Bytes())
	traces.mu.Unlock()
	if len(outputs["traces"]) == 0 {
		t.Fatal("the traces were not looked at")
	}
	outputs["standard error"] = []byte(s.stderr.String())
	outputs["standard output"] = []byte(s.stdout.String())
	readAll(t, s.dir, outputs)
	for where, content := range outputs {
		for what, canary := range canaries {
			if strings.HasSuffix(where, "pin") && what == "the PIN" {
				continue // that is its place
			}
			if form := leaks(content, canary); form != "" {
				t.Errorf("%s stands in %s, %s", what, where, form)
			}
		}
	}
}

// provoke makes the server work and fail in every way it can, with card numbers where
// callers might put them, and gives what it answered in clear.
func (s *server) provoke(t *testing.T) map[string][]byte {
	t.Helper()
	const pan = "5204245250001488"
	answers := map[string][]byte{}
	for _, card := range s.info.Cards {
		if a := s.mustPost(s.newRequest().with(request{"externalCardId": card.ExternalCardID})); a.status != 200 {
			t.Fatalf("answered %d: %s", a.status, a.body)
		}
	}
	used := s.newRequest()
	s.mustPost(used)
	for name, body := range map[string]any{
		"used nonce":            used,
		"PAN as card id":        s.newRequest().with(request{"externalCardId": pan}),
		"PAN as nonce":          s.newRequest().with(request{"nonce": pan}),
		"PAN as walletType":     s.newRequest().with(request{"walletType": pan}),
		"PAN as certificate":    s.newRequest().with(request{"certificates": []string{pan, pan}}),
		"PAN as unknown member": s.newRequest().with(request{pan: pan}),
		"PAN as a number":       []byte(`{"nonce":` + pan + `}`),
		"PAN as the body":       []byte(pan + pan),
	} {
		answers["answer to "+name] = s.mustPost(body).body
	}
	for name, change := range map[string]func(*http.Request){
		"PAN in the path":     func(r *http.Request) { r.URL.Path = "/issuer/" + pan },
		"PAN in the query":    func(r *http.Request) { r.URL.RawQuery = "pan=" + pan },
		"PAN as request id":   func(r *http.Request) { r.Header.Set("X-Request-Id", pan) },
		"PAN as method":       func(r *http.Request) { r.Method = "P" + pan },
		"PAN as token":        func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+pan) },
		"PAN as content type": func(r *http.Request) { r.Header.Set("Content-Type", pan) },
		"PAN as trace":        func(r *http.Request) { r.Header.Set("traceparent", "00-"+pan+pan+"-"+pan+"-01") },
		"PAN as trace state": func(r *http.Request) {
			r.Header.Set("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			r.Header.Set("tracestate", "a="+pan)
		},
		"PAN as forwarded host": func(r *http.Request) { r.Header.Set("X-Forwarded-For", pan) },
	} {
		req, err := http.NewRequest(http.MethodPost, s.info.BaseURL+"/issuer/push-provisioning/signed-cards", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.info.Clients.Issuer.Token)
		req.Header.Set("Content-Type", "application/json")
		change(req)
		a, err := do(req)
		if err != nil {
			t.Fatal(err)
		}
		answers["answer to "+name] = a.body
	}
	return answers
}

// readAll adds every file under dir, the database's among them.
func readAll(t *testing.T, dir string, into map[string][]byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		into[path], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(into[filepath.Join(dir, "mintmark.db")]) == 0 {
		t.Fatal("the database was not looked at")
	}
}

// leaks names the form in which canary stands in content; empty if it does not.
func leaks(content []byte, canary string) string {
	if bytes.Contains(content, []byte(canary)) {
		return "as it is"
	}
	lower := bytes.ToLower(content)
	if bytes.Contains(lower, []byte(hex.EncodeToString([]byte(canary)))) {
		return "in hex"
	}
	if packed, err := hex.DecodeString(canary); err == nil && bytes.Contains(content, packed) {
		return "in BCD"
	}
	for shift := range 3 {
		// The part of the encoding that does not depend on what stands around it.
		e := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + canary))
		from := []int{0, 2, 3}[shift]
		e = e[from : len(e)-1]
		if bytes.Contains(content, []byte(e)) || bytes.Contains(content, []byte(strings.NewReplacer("+", "-", "/", "_").Replace(e))) {
			return "in Base64"
		}
	}
	return ""
}

// The search itself finds what it looks for.
func TestCanaryIsFoundInEveryForm(t *testing.T) {
	const canary = "5204245250001488"
	packed, _ := hex.DecodeString(canary)
	for name, content := range map[string][]byte{
		"as it is":  []byte("pan=" + canary + ";"),
		"in hex":    []byte(strings.ToUpper(hex.EncodeToString([]byte("x" + canary)))),
		"in BCD":    append([]byte{1}, packed...),
		"in Base64": []byte(base64.StdEncoding.EncodeToString([]byte(`{"a":"` + canary + `","b":1}`))),
	} {
		if got := leaks(content, canary); got != name {
			t.Errorf("%s is found %q", name, got)
		}
	}
	for shift := range 6 {
		content := base64.URLEncoding.EncodeToString([]byte(strings.Repeat("y", shift) + canary + "z"))
		if leaks([]byte(content), canary) == "" {
			t.Errorf("Base64 at offset %d is not found", shift)
		}
	}
}
