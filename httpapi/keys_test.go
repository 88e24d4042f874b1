package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const aSet = `{"keys":[{"use":"sig","kty":"EC","kid":"k","crv":"P-256","alg":"ES256","x":"AA","y":"AA"}]}`

// serves gives the API public keys.
func serves(k publicKeys) func(*setup) { return func(s *setup) { s.Keys = k } }

func getKeys(path string, header ...string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

func TestKeySetIsForAnybodyAndMayBeKept(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t), serves(publicKeys{set: []byte(aSet)}))
	got := a.do(getKeys(jwks))
	tag := got.header.Get("ETag")
	if got.status != http.StatusOK || got.body != aSet || got.header.Get("Content-Type") != "application/jwk-set+json" || !regexp.MustCompile(`^"[A-Za-z0-9_-]{22}"$`).MatchString(tag) {
		t.Errorf("answered %d, %v: %s", got.status, got.header, got.body)
	}
	for name, tc := range map[string]struct {
		header []string
		status int
	}{
		"again":                        {nil, 200},
		"with a token, bad or good":    {[]string{"Authorization", "Bearer " + canary}, 200},
		"the set that it has":          {[]string{"If-None-Match", tag}, 304},
		"weakly":                       {[]string{"If-None-Match", "W/" + tag}, 304},
		"one of several":               {[]string{"If-None-Match", `"x", ` + tag}, 304},
		"any":                          {[]string{"If-None-Match", "*"}, 304},
		"another":                      {[]string{"If-None-Match", `"` + canary + `"`}, 200},
		"without quotes":               {[]string{"If-None-Match", strings.Trim(tag, `"`)}, 200},
		"what is no tag":               {[]string{"If-None-Match", `%zz,"`}, 200},
		"two lines":                    {[]string{"If-None-Match", tag, "If-None-Match", `"x"`}, 304},
		"a range":                      {[]string{"Range", "bytes=0-3"}, 200},
		"a range beyond it":            {[]string{"Range", "bytes=9999-"}, 200},
		"a range of another set":       {[]string{"Range", "bytes=0-3", "If-Range", `"x"`}, 200},
		"on the condition of a tag":    {[]string{"If-Match", `"x"`}, 200},
		"on the condition of a time":   {[]string{"If-Modified-Since", time.Now().UTC().Format(http.TimeFormat)}, 200},
		"not changed since":            {[]string{"If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"}, 200},
		"what does it good or no good": {[]string{"Accept", "text/html", "Accept-Encoding", "gzip"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			got := a.do(getKeys(jwks, tc.header...))
			want := map[int]string{200: aSet, 304: ""}[tc.status]
			if got.status != tc.status || got.body != want || got.header.Get("ETag") != tag {
				t.Errorf("answered %d, %v: %q", got.status, got.header, got.body)
			}
			a.holdsNothingOf(got, canary)
		})
	}
	other := newAPI(t, mustNotBeAsked(t), serves(publicKeys{set: []byte(strings.Replace(aSet, `"k"`, `"l"`, 1))}))
	if got := other.do(getKeys(jwks, "If-None-Match", tag)); got.status != http.StatusOK || got.header.Get("ETag") == tag {
		t.Errorf("another set answered %d with the same tag", got.status)
	}
}

func TestCertificateOfAKeyIsForAnybody(t *testing.T) {
	kid := strings.Repeat("kA-_", 10) + "abc"
	const pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	a := newAPI(t, mustNotBeAsked(t), serves(publicKeys{certificate: map[string]string{kid: pem}}))
	path := func(kid string) string { return "/v1/keys/" + kid + "/certificate.pem" }
	if got := a.do(getKeys(path(kid))); got.status != http.StatusOK || got.body != pem || got.header.Get("Content-Type") != "application/pem-certificate-chain" {
		t.Errorf("answered %d, %v: %s", got.status, got.header, got.body)
	}
	for name, other := range map[string]string{
		"nobody's": strings.Repeat("A", 43), "shorter": kid[:42], "longer": kid + "A", "a canary": canary, "a card's number": canaryNumber, "dots": "..", "escaped": "%2e%2e",
	} {
		t.Run(name, func(t *testing.T) {
			got := a.do(getKeys(path(other)))
			got.expect(t, http.StatusNotFound, "unknown-key")
			a.holdsNothingOf(got, canary, canaryNumber)
		})
	}
	for _, p := range []string{path(""), "/v1/keys/" + kid, "/v1/keys/" + kid + "/", "/v1/keys/a/b/certificate.pem", path(kid) + "/"} {
		req := getKeys(jwks)
		req.URL.Path = p
		a.do(req).expect(t, http.StatusNotFound, "no-such-resource")
	}
}

// Whoever asks for the head gets what GET would say (RFC 9110, 9.3.2).
func TestHeadOfKeys(t *testing.T) {
	kid := strings.Repeat("A", 43)
	a := newAPI(t, mustNotBeAsked(t), serves(publicKeys{set: []byte(aSet), certificate: map[string]string{kid: "x"}}))
	for _, path := range []string{jwks, "/v1/keys/" + kid + "/certificate.pem"} {
		head := getKeys(path)
		head.Method = http.MethodHead
		full, got := a.do(getKeys(path)), a.do(head)
		for _, name := range []string{"ETag", "Content-Type", "Cache-Control"} {
			if got.header.Get(name) != full.header.Get(name) {
				t.Errorf("%s: %s is %q, of GET %q", path, name, got.header.Get(name), full.header.Get(name))
			}
		}
		if got.status != http.StatusOK {
			t.Errorf("%s answered %d", path, got.status)
		}
	}
}

// A set in which keys are missing is not given, and nobody keeps the failure.
func TestKeysThatAreNotKnownYet(t *testing.T) {
	for _, path := range []string{jwks, "/v1/keys/" + strings.Repeat("A", 43) + "/certificate.pem"} {
		for name, tc := range map[string]struct {
			err    error
			status int
			typ    string
			retry  string
		}{
			"not yet":       {fmt.Errorf("keys: %w", later{3 * time.Second}), 503, "unavailable", "3"},
			"anything else": {errors.New(canary), 500, "internal", ""},
		} {
			a := newAPI(t, mustNotBeAsked(t), serves(publicKeys{set: []byte(aSet), err: tc.err}))
			got := a.do(getKeys(path))
			got.expect(t, tc.status, tc.typ)
			if got.header.Get("Retry-After") != tc.retry || got.header.Get("ETag") != "" || strings.Contains(got.body, canary) {
				t.Errorf("%s, %s: %v %s", path, name, got.header, got.body)
			}
		}
	}
}

// Nobody is asked who he is for a public key: a stranger's certificate and a used-up rate
// are no bar.
func TestKeysAskForNobody(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t), serves(publicKeys{set: []byte(aSet)}), callers(refuser{authenticate: errors.New("asked"), admit: errors.New("asked")}),
		func(s *setup) { s.Certificates = map[Group]CertificateMode{KeysGroup: CertificatesRequired} })
	req := on(getKeys(jwks, "Authorization", "Bearer "+token(t, app, jwt.MapClaims{})), withoutCert)
	if got := a.do(req); got.status != http.StatusOK {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}
