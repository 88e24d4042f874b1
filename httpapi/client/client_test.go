package client_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mintmark/mintmark/httpapi/client"
)

// A server that sends the caller elsewhere does not have the caller's token sent there.
func TestTokenGoesToItsServerAlone(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the client went on to %s, with %q", r.URL.Path, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	asked := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header.Get("Authorization")
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
	}))
	defer server.Close()
	c, err := client.New(server.URL, func(context.Context) (string, error) { return "its.own.token", nil })
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.GetEnablementWithResponse(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if asked != "Bearer its.own.token" || res.StatusCode() != http.StatusTemporaryRedirect {
		t.Errorf("asked with %q, answered %d", asked, res.StatusCode())
	}
}
