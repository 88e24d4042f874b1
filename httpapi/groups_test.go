package httpapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/record"
)

// described are the routes of the contract, which no group hides.
func described(t *testing.T) []gin.RouteInfo {
	t.Helper()
	engine := newEngine()
	RegisterHandlers(engine, &server{})
	return engine.Routes()
}

// A route without a group would be served to nobody; one in another than its tag says, to
// the wrong ones.
func TestEveryRouteHasItsGroup(t *testing.T) {
	tags := map[string]Group{"push-provisioning": IssuerGroup, "cards": IssuerGroup, "decisions": IssuerGroup, "wallet-tokens": IssuerGroup, "enablement": IssuerGroup, "merchant": MerchantGroup, "passes": PassesGroup, "pass-devices": PassesGroup, "keys": KeysGroup, "audit": KeysGroup, "description": KeysGroup}
	param := regexp.MustCompile(`:([A-Za-z]+)`)
	var routed []string
	for _, r := range described(t) {
		routed = append(routed, r.Path)
		item := contract(t).Paths.Find(param.ReplaceAllString(r.Path, "{$1}"))
		if item == nil {
			t.Errorf("%s is not in the contract", r.Path)
			continue
		}
		op := item.GetOperation(r.Method)
		if len(op.Tags) != 1 || groupOf[r.Path] != tags[op.Tags[0]] || groupOf[r.Path] == "" {
			t.Errorf("%s is in group %q, with tags %v", r.Path, groupOf[r.Path], op.Tags)
		}
	}
	slices.Sort(routed)
	routed = slices.Compact(routed) // a path may have several methods
	if diff := cmp.Diff(slices.Sorted(maps.Keys(groupOf)), routed); diff != "" {
		t.Errorf("(-groups +routes):\n%s", diff)
	}
}

// A route of a role that is not served is a path like any that nobody knows, whatever the
// method, with a good token or without one.
func TestRoutesOfOtherRolesAreNotThere(t *testing.T) {
	all := []Group{IssuerGroup, MerchantGroup, KeysGroup}
	for bits := range 1 << len(all) {
		var groups []Group
		for i, g := range all {
			if bits>>i&1 == 1 {
				groups = append(groups, g)
			}
		}
		t.Run(fmt.Sprint(groups), func(t *testing.T) {
			a := newAPI(t, nil, func(s *setup) { s.Groups, s.Merchant, s.Keys = groups, nil, nil }) // who asks them panics
			unknown := a.do(httptest.NewRequest(http.MethodPost, "/nobody/knows", nil))
			methods := map[string][]string{} // by path
			for _, r := range described(t) {
				methods[r.Path] = append(methods[r.Path], r.Method)
				if r.Method == http.MethodGet {
					methods[r.Path] = append(methods[r.Path], http.MethodHead)
				}
			}
			for _, r := range described(t) {
				path := regexp.MustCompile(`:[A-Za-z]+`).ReplaceAllString(r.Path, "x")
				for _, method := range []string{r.Method, http.MethodGet, http.MethodPost, http.MethodPut, http.MethodHead, http.MethodOptions} {
					served := slices.Contains(groups, groupOf[r.Path])
					if served && slices.Contains(methods[r.Path], method) {
						continue
					}
					req := a.postTo(path, "{}", token(t, issuer, nil))
					req.Method = method
					got := a.serve(req)
					want := http.StatusNotFound
					if served {
						want = http.StatusMethodNotAllowed
					}
					if got.status != want || (got.header.Get("Allow") != "") != served {
						t.Errorf("%s %s answered %d, Allow %q", method, path, got.status, got.header.Get("Allow"))
					}
					if !served && method != http.MethodHead && withoutID(got) != withoutID(unknown) {
						t.Errorf("%s %s is told from a path that nobody knows: %s", method, path, got.body)
					}
				}
			}
			if len(a.refusals.seen) != 0 {
				t.Errorf("recorded %+v", a.refusals.seen)
			}
		})
	}
}

// withoutID is a body without its request id.
func withoutID(g answer) string {
	return strings.ReplaceAll(g.body, g.header.Get("X-Request-Id"), "ID")
}

// deskCertificate is a TLS client certificate of the desk, a client without tokens.
var deskCertificate = sync.OnceValue(func() *x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: canary}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return cert
})

func deskRule() *access.CertificateRule {
	return &access.CertificateRule{Pins: [][sha256.Size]byte{sha256.Sum256(deskCertificate().RawSubjectPublicKeyInfo)}}
}

// desk is a client that its certificate proves.
func desk(rights ...access.Right) access.Client {
	c := access.Client{Issuer: "desk", Tenant: "bank-a", Certificate: deskRule()}
	for _, r := range rights {
		c.Grants = append(c.Grants, access.Grant{Right: r})
	}
	return c
}

// on says what connection a request came over.
func on(req *http.Request, state *tls.ConnectionState) *http.Request {
	req.TLS = state
	return req
}

var (
	plain       *tls.ConnectionState
	withoutCert = &tls.ConnectionState{}
)

func withCert() *tls.ConnectionState {
	return &tls.ConnectionState{PeerCertificates: []*x509.Certificate{deskCertificate()}}
}

// Certificates count where the group's mode says so, for those who need them, and a good one
// that is not looked at is as none.
func TestCertificatesCountByTheModeOfTheGroup(t *testing.T) {
	bound := jwt.MapClaims{"cnf": map[string]string{"x5t#S256": thumbprint()}}
	foreign := jwt.MapClaims{"cnf": map[string]string{"x5t#S256": strings.Repeat("A", 43)}}
	const off, request, require = CertificatesOff, CertificatesOptional, CertificatesRequired
	for _, tc := range []struct {
		name  string
		mode  CertificateMode
		conn  *tls.ConnectionState
		token string // empty for none
		want  access.Reason
	}{
		{"token", off, plain, token(t, backend, nil), ""},
		{"token", off, withCert(), token(t, backend, nil), ""},
		{"token", request, plain, token(t, backend, nil), ""},
		{"token", request, withoutCert, token(t, backend, nil), ""},
		{"token", request, withCert(), token(t, backend, nil), ""},
		{"token", require, plain, token(t, backend, nil), access.ReasonNoCertificate},
		{"token", require, withoutCert, token(t, backend, nil), access.ReasonNoCertificate},
		{"token, and a certificate of anybody's", require, withCert(), token(t, backend, nil), access.ReasonUnknownCertificate},

		{"bound token", off, withCert(), token(t, "bound", bound), access.ReasonNoCertificate},
		{"bound token", request, withCert(), token(t, "bound", bound), ""},
		{"bound token", request, withoutCert, token(t, "bound", bound), access.ReasonNoCertificate},
		{"bound token", request, plain, token(t, "bound", bound), access.ReasonNoCertificate},
		{"bound token", require, withCert(), token(t, "bound", bound), ""},
		{"token bound elsewhere", request, withCert(), token(t, "bound", foreign), access.ReasonBinding},

		{"certificate alone", off, withCert(), "", access.ReasonMissing},
		{"certificate alone", request, withCert(), "", ""},
		{"certificate alone", require, withCert(), "", ""},
		{"nothing", off, withoutCert, "", access.ReasonMissing},
		{"nothing", request, withoutCert, "", access.ReasonMissing},
		{"nothing", require, withoutCert, "", access.ReasonNoCertificate},
		{"nothing", "", withCert(), "", access.ReasonMissing}, // a group of which nothing is said
		{"certificate alone", "on", withCert(), "", access.ReasonMissing},
	} {
		t.Run(fmt.Sprintf("%s, %s, %v", tc.name, tc.mode, tc.conn != nil), func(t *testing.T) {
			own := client("bound", "bank-a", access.SignMerchantTokens)
			own.BoundTokens = true
			asked := 0
			a := newAPI(t, mustNotBeAsked(t), withClient(own), withClient(desk(access.SignMerchantTokens)), func(s *setup) {
				s.Certificates = map[Group]CertificateMode{MerchantGroup: tc.mode, IssuerGroup: request, KeysGroup: request}
			}, asks(merchants{sign: func(merchant.Caller, merchant.TokenRequest) (merchant.Token, error) {
				asked++
				return merchant.Token{}, nil
			}}))
			req := on(a.postTo(merchantTokens, goodToken(nil), tc.token), tc.conn)
			if tc.token == "" {
				req.Header.Del("Authorization")
			}
			// What a gateway says about certificates proves nothing.
			req.Header.Set("X-Forwarded-Client-Cert", base64.StdEncoding.EncodeToString(deskCertificate().Raw))
			req.Header.Set("X-SSL-Client-Verify", "SUCCESS")
			req.Header.Set("Client-Cert", ":"+base64.StdEncoding.EncodeToString(deskCertificate().Raw)+":")
			got := a.do(req)
			if tc.want == "" {
				if got.status != http.StatusOK || asked != 1 {
					t.Errorf("answered %d: %s\n%s", got.status, got.body, a.log)
				}
				return
			}
			got.expect(t, http.StatusUnauthorized, "unauthenticated")
			if diff := cmp.Diff([]record.Intent{unknownRefusal(record.SignMerchantToken, string(tc.want))}, a.recorded()); diff != "" || asked != 0 {
				t.Errorf("recorded (-want +got):\n%s", diff)
			}
			a.holdsNothingOf(got, canary)
		})
	}
}

// A mode is its group's own: what is asked of merchants' apps is not asked of others.
func TestModesAreByGroup(t *testing.T) {
	a := newAPI(t, provisioner(seals), withClient(client(issuer, "bank-a", access.SignCards, access.SignMerchantTokens)), func(s *setup) {
		s.Certificates = map[Group]CertificateMode{MerchantGroup: CertificatesRequired}
		s.Keys = publicKeys{set: []byte(`{"keys":[]}`)}
	})
	if got := a.do(a.post(changed(nil))); got.status != http.StatusOK {
		t.Errorf("the issuer's route answered %d: %s", got.status, got.body)
	}
	a.do(a.postTo(merchantTokens, goodToken(nil), token(t, issuer, nil))).expect(t, http.StatusUnauthorized, "unauthenticated")
	if got := a.do(httptest.NewRequest(http.MethodGet, jwks, nil)); got.status != http.StatusOK {
		t.Errorf("the keys' route answered %d: %s", got.status, got.body)
	}
}

func thumbprint() string {
	sum := sha256.Sum256(deskCertificate().Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
