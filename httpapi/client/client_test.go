package client

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// serve is a server that answers every call alike, and keeps what was asked last.
func serve(t *testing.T, status int, mediaType, body string) (base string, asked *http.Request) {
	t.Helper()
	asked = &http.Request{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = *r
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Location", "/elsewhere")
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func bearer(context.Context) (string, error) { return "a.b.c", nil }

const masked = `{"product":"gold","network":"mastercard","last4":"1488","storedAt":"2026-11-22T12:00:00Z"}`

// An answer is in the member of its status; the call went where the description says, with the
// caller's token.
func TestCallHasTheTokenAndGivesTheAnswer(t *testing.T) {
	base, asked := serve(t, http.StatusOK, "application/json", masked)
	c, err := New(base, bearer)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.GetCardWithResponse(t.Context(), "card-7")
	if err != nil {
		t.Fatal(err)
	}
	if asked.Method != http.MethodGet || asked.URL.Path != "/v1/cards/card-7" || asked.Header.Get("Authorization") != "Bearer a.b.c" {
		t.Errorf("asked %s %s with %v", asked.Method, asked.URL, asked.Header)
	}
	want := MaskedCard{Product: "gold", Network: "mastercard", Last4: "1488", StoredAt: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	if res.JSON200 == nil || *res.JSON200 != want {
		t.Errorf("gives %+v", res.JSON200)
	}
}

// A caller whom a certificate proves sends no token, and a call under another authorization has
// that alone.
func TestCallMayHaveAnotherAuthorization(t *testing.T) {
	base, asked := serve(t, http.StatusOK, "application/json", masked)
	for _, tc := range []struct {
		token func(context.Context) (string, error)
		own   []RequestEditorFn
		want  string
	}{
		{nil, nil, ""},
		{bearer, []RequestEditorFn{func(_ context.Context, req *http.Request) error {
			req.Header.Set("Authorization", "ApplePass x")
			return nil
		}}, "ApplePass x"},
	} {
		c, err := New(base, tc.token)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.GetCardWithResponse(t.Context(), "card-7", tc.own...); err != nil {
			t.Fatal(err)
		}
		if got := asked.Header.Values("Authorization"); strings.Join(got, ",") != tc.want {
			t.Errorf("sent %q instead of %q", got, tc.want)
		}
	}
}

// Without a token nothing is sent.
func TestTokenThatCannotBeMadeEndsTheCall(t *testing.T) {
	base, asked := serve(t, http.StatusOK, "application/json", masked)
	locked := errors.New("the key store is locked")
	c, err := New(base, func(context.Context) (string, error) { return "", locked })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetCardWithResponse(t.Context(), "card-7"); !errors.Is(err, locked) {
		t.Errorf("the call gives %v", err)
	}
	if asked.URL != nil {
		t.Errorf("asked %s", asked.URL)
	}
}

// Whoever answers with a redirect gets no second request, and so no token and no body.
func TestRedirectIsNotFollowed(t *testing.T) {
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		base, asked := serve(t, status, "text/plain", "")
		c, err := New(base, bearer)
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.SignCardWithResponse(t.Context(), SignCardRequest{})
		if err != nil || res.StatusCode() != status || res.JSON200 != nil || asked.URL.Path == "/elsewhere" {
			t.Errorf("%d gives %v, %v; asked %s", status, res, err, asked.URL)
		}
	}
}

// Nothing is sent twice, and what was refused says why by its type.
func TestRefusalIsAProblem(t *testing.T) {
	base, _ := serve(t, http.StatusServiceUnavailable, "application/problem+json", `{"type":"urn:mintmark:problem:unavailable","title":"Not available","status":503,"later":1}`)
	c, err := New(base, bearer)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.SignCardWithResponse(t.Context(), SignCardRequest{})
	if err != nil || res.JSON200 != nil || res.HTTPResponse.Header.Get("Retry-After") != "3" {
		t.Fatalf("%+v, %v", res, err)
	}
	if p, err := ProblemOf(res.Body); err != nil || p.Type != ProblemUnavailable || p.Status != http.StatusServiceUnavailable {
		t.Errorf("%+v, %v", p, err)
	}
	for _, body := range []string{"", "<html>", `{"error":"Unauthorized"}`, "[]", "null"} {
		if p, err := ProblemOf([]byte(body)); err == nil {
			t.Errorf("%q is the problem %+v", body, p)
		}
	}
}
