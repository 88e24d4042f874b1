package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
)

// registrationsEach is how many devices register for one pass, well below the server's
// usual bound.
const registrationsEach = 5000

// passes looks whether the target has a pass and its type.
func (t *traffic) passes(context.Context) error {
	p := t.Passes
	if p.Tenant == "" || p.PassTypeIdentifier == "" || p.SerialNumber == "" || p.AuthenticationToken == "" {
		return errors.New("the target names no pass")
	}
	return t.Clients.Issuer.load()
}

// pass makes or changes a pass, by the type's template. It chooses the authentication
// token, so that what devices ask can be made before the server has answered.
func (t *traffic) pass(serial string, value uint64) ([]request, error) {
	path := "/api/" + t.Passes.Tenant + "/passes/" + t.Passes.PassTypeIdentifier + "/" + serial
	return t.as(&t.Clients.Issuer, http.MethodPut, path, map[string]any{"pass": map[string]any{
		"authenticationToken": t.passToken,
		"storeCard":           map[string]any{"primaryFields": []any{map[string]any{"key": "points", "label": "POINTS", "value": value}}},
	}}, http.StatusCreated)
}

func (t *traffic) passPut(n uint64) ([]request, error) {
	return t.pass(fmt.Sprintf("loadgen-%s-%d", t.run, n), n)
}

func (t *traffic) passIssue(n uint64) ([]request, error) {
	all, err := t.passPut(n)
	return append(all, t.download(fmt.Sprintf("loadgen-%s-%d", t.run, n), t.passToken)), err
}

func (t *traffic) passDownload(uint64) ([]request, error) {
	return []request{t.download(t.Passes.SerialNumber, t.Passes.AuthenticationToken)}, nil
}

// ofDevice is a request of a phone to Apple's web service.
func (t *traffic) ofDevice(method, path, token string, body []byte, want int) request {
	q := request{method: method, path: "/api/" + t.Passes.Tenant + "/passes/apple/v1" + path, body: body, want: []int{want}}
	if token != "" {
		q.authorization = "ApplePass " + token
	}
	return q
}

func (t *traffic) download(serial, token string) request {
	return t.ofDevice(http.MethodGet, "/passes/"+t.Passes.PassTypeIdentifier+"/"+serial, token, nil, http.StatusOK)
}

// passesToRegister makes as many passes as the run's devices need.
func (t *traffic) passesToRegister(ctx context.Context) error {
	if err := t.passes(ctx); err != nil {
		return err
	}
	for i := range 1 + t.plan.due()/registrationsEach {
		serial := fmt.Sprintf("loadgen-%s-registered-%d", t.run, i)
		all, err := t.pass(serial, 0)
		if err := t.send(ctx, all, err); err != nil {
			return err
		}
		t.serials = append(t.serials, serial)
	}
	return nil
}

// registration is a device's request for a pass.
func (t *traffic) registration(device, serial string) request {
	var push [32]byte
	_, _ = rand.Read(push[:]) // never fails
	return t.ofDevice(http.MethodPost, "/devices/"+device+"/registrations/"+t.Passes.PassTypeIdentifier+"/"+serial, t.passToken,
		[]byte(`{"pushToken":"`+hex.EncodeToString(push[:])+`"}`), http.StatusCreated)
}

func (t *traffic) register(n uint64) ([]request, error) {
	serial := t.serials[n%uint64(len(t.serials))]
	return []request{t.registration(fmt.Sprintf("loadgen-%s-%d", t.run, n), serial)}, nil
}

// registeredDevice makes the device that asks for its passes, and its one pass.
func (t *traffic) registeredDevice(ctx context.Context) error {
	if err := t.passes(ctx); err != nil {
		return err
	}
	serial := "loadgen-" + t.run + "-listed"
	all, err := t.pass(serial, 0)
	return t.send(ctx, append(all, t.registration(t.listed(), serial)), err)
}

// listed is the device that asks.
func (t *traffic) listed() string { return "loadgen-" + t.run + "-lists" }

func (t *traffic) list(uint64) ([]request, error) {
	return []request{t.ofDevice(http.MethodGet, "/devices/"+t.listed()+"/registrations/"+t.Passes.PassTypeIdentifier, "", nil, http.StatusOK)}, nil
}
