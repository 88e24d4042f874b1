package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// passJourney is the wallet pass's part of the demo: its issuer, and a phone. The pass is
// taken apart with archive/zip and verified with openssl.
type passJourney struct {
	*demo

	device   string
	tag      string
	modified string            // Last-Modified of the version that the phone has
	files    map[string][]byte // of that version
	balance  int
}

func (p *passJourney) steps() []step {
	return []step{
		{"phone installs the demo pass", p.install},
		{"its manifest lists every file with its hash", p.manifest},
		{"openssl verifies its signature, down to the simulated root", p.openssl},
		{"phone registers, and is shown what it has", p.register},
		{"issuer changes the balance", p.change},
		{"phone polls with its tag, and fetches the new version", p.poll},
		{"openssl verifies that too, and what has not changed is not sent again", p.again},
		{"a manifest as personalization token is refused, and so is a wrong token", p.hostile},
		{"phone removes the pass, and is told nothing any more", p.remove},
	}
}

func (p *passJourney) url(format string, a ...any) string {
	return p.info.BaseURL + "/api/" + p.info.Passes.Tenant + "/passes/apple/v1" + fmt.Sprintf(format, a...)
}

func (p *passJourney) passURL() string {
	return p.url("/passes/%s/%s", p.info.Passes.PassTypeIdentifier, p.info.Passes.SerialNumber)
}

func (p *passJourney) deviceURL() string {
	return p.url("/devices/%s/registrations/%s", p.device, p.info.Passes.PassTypeIdentifier)
}

// send makes a call; the answer must have the status.
func (p *passJourney) send(ctx context.Context, method, url, authorization string, header map[string]string, body []byte, want int) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := p.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, 8<<20))
	if err == nil && res.StatusCode != want {
		err = fmt.Errorf("%s answered %d instead of %d: %s", method, res.StatusCode, want, b)
	}
	return res.Header, b, err
}

func (p *passJourney) token() string { return "ApplePass " + p.info.Passes.AuthenticationToken }

func (p *passJourney) install(ctx context.Context) error {
	var id [16]byte
	_, _ = rand.Read(id[:])
	p.device = hex.EncodeToString(id[:])
	return p.fetch(ctx, nil)
}

// fetch gets the pass and takes it apart.
func (p *passJourney) fetch(ctx context.Context, header map[string]string) error {
	got, b, err := p.send(ctx, http.MethodGet, p.passURL(), p.token(), header, nil, http.StatusOK)
	if err != nil {
		return err
	}
	archive, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	p.files = map[string][]byte{}
	for _, f := range archive.File {
		r, err := f.Open()
		if err != nil {
			return err
		}
		content, err := io.ReadAll(io.LimitReader(r, 8<<20))
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		p.files[f.Name] = content
	}
	p.modified = got.Get("Last-Modified")
	return nil
}

func (p *passJourney) manifest(context.Context) error {
	var listed map[string]string
	if err := json.Unmarshal(p.files["manifest.json"], &listed); err != nil {
		return err
	}
	if len(listed) != len(p.files)-2 || listed["pass.json"] == "" || listed["icon.png"] == "" {
		return fmt.Errorf("it lists %d of %d files", len(listed), len(p.files)-2)
	}
	for name, want := range listed {
		if sum := sha1.Sum(p.files[name]); hex.EncodeToString(sum[:]) != want {
			return fmt.Errorf("the hash of %s is another", name)
		}
	}
	return nil
}

func (p *passJourney) openssl(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "mintmark-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for _, name := range []string{"manifest.json", "signature"} {
		if err := os.WriteFile(filepath.Join(dir, name), p.files[name], 0o600); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "openssl", "cms", "-verify", "-inform", "DER", "-in", filepath.Join(dir, "signature"),
		"-content", filepath.Join(dir, "manifest.json"), "-binary", "-CAfile", p.info.Passes.RootCert, "-purpose", "any", "-out", os.DevNull)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("openssl: %w: %s", err, out)
	}
	return nil
}

// list asks for what is newer than the phone's tag, and takes the new one.
func (p *passJourney) list(ctx context.Context) error {
	url := p.deviceURL()
	if p.tag != "" {
		url += "?passesUpdatedSince=" + p.tag
	}
	_, b, err := p.send(ctx, http.MethodGet, url, "", nil, nil, http.StatusOK)
	if err != nil {
		return err
	}
	var answer struct {
		SerialNumbers []string
		LastUpdated   string
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return err
	}
	if len(answer.SerialNumbers) != 1 || answer.SerialNumbers[0] != p.info.Passes.SerialNumber || answer.LastUpdated == p.tag {
		return fmt.Errorf("listed %v", answer.SerialNumbers)
	}
	p.tag = answer.LastUpdated
	return nil
}

func (p *passJourney) register(ctx context.Context) error {
	body := []byte(`{"pushToken":"` + p.device + p.device + `"}`)
	url := p.deviceURL() + "/" + p.info.Passes.SerialNumber
	for _, want := range []int{http.StatusCreated, http.StatusOK} { // new, and then there
		if _, _, err := p.send(ctx, http.MethodPost, url, p.token(), nil, body, want); err != nil {
			return err
		}
	}
	return p.list(ctx)
}

func (p *passJourney) change(ctx context.Context) error {
	bearer, err := p.info.Clients.Issuer.Sign(time.Now())
	if err != nil {
		return err
	}
	p.balance = int(time.Now().UnixMilli() % 100_000) // another than before
	body := fmt.Sprintf(`{"pass":{"storeCard":{"primaryFields":[{"key":"balance","label":"BALANCE","value":%d,"currencyCode":"EUR"}]}}}`, p.balance)
	url := fmt.Sprintf("%s/api/%s/passes/%s/%s", p.info.BaseURL, p.info.Passes.Tenant, p.info.Passes.PassTypeIdentifier, p.info.Passes.SerialNumber)
	_, _, err = p.send(ctx, http.MethodPut, url, "Bearer "+bearer, map[string]string{"Content-Type": "application/json"}, []byte(body), http.StatusOK)
	return err
}

func (p *passJourney) poll(ctx context.Context) error {
	if err := p.list(ctx); err != nil {
		return err
	}
	if err := p.fetch(ctx, map[string]string{"If-Modified-Since": p.modified}); err != nil {
		return err
	}
	var pass struct {
		StoreCard struct{ PrimaryFields []struct{ Value int } }
	}
	if err := json.Unmarshal(p.files["pass.json"], &pass); err != nil {
		return err
	}
	if f := pass.StoreCard.PrimaryFields; len(f) != 1 || f[0].Value != p.balance {
		return errors.New("the balance is not the new one")
	}
	return nil
}

func (p *passJourney) again(ctx context.Context) error {
	if err := errors.Join(p.manifest(ctx), p.openssl(ctx)); err != nil {
		return err
	}
	_, _, err := p.send(ctx, http.MethodGet, p.passURL(), p.token(), map[string]string{"If-Modified-Since": p.modified}, nil, http.StatusNotModified)
	if err != nil {
		return err
	}
	_, _, err = p.send(ctx, http.MethodGet, p.deviceURL()+"?passesUpdatedSince="+p.tag, "", nil, nil, http.StatusNoContent)
	return err
}

func (p *passJourney) hostile(ctx context.Context) error {
	forged, err := json.Marshal(map[string]any{"personalizationToken": string(p.files["manifest.json"]), "requiredPersonalizationInfo": map[string]string{}})
	if err != nil {
		return err
	}
	if _, _, err = p.send(ctx, http.MethodPost, p.passURL()+"/personalize", "", nil, forged, http.StatusBadRequest); err != nil {
		return err
	}
	_, _, err = p.send(ctx, http.MethodGet, p.passURL(), p.token()+"0", nil, nil, http.StatusUnauthorized)
	return err
}

func (p *passJourney) remove(ctx context.Context) error {
	url := p.deviceURL() + "/" + p.info.Passes.SerialNumber
	if _, _, err := p.send(ctx, http.MethodDelete, url, p.token(), nil, nil, http.StatusOK); err != nil {
		return err
	}
	_, _, err := p.send(ctx, http.MethodGet, p.deviceURL(), "", nil, nil, http.StatusNoContent)
	return err
}
