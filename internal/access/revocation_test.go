package access_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

// crl is a CA's list of these, current around noon unless changed.
func crl(t *testing.T, by *issued, change func(*x509.RevocationList), revoked ...*issued) *x509.RevocationList {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon.Add(-time.Hour), NextUpdate: noon.Add(time.Hour)}
	for _, c := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: c.leaf.SerialNumber, RevocationTime: noon})
	}
	if change != nil {
		change(list)
	}
	issuer := *by.leaf
	issuer.KeyUsage |= x509.KeyUsageCRLSign
	der, err := x509.CreateRevocationList(rand.Reader, list, &issuer, by.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestRevokedCertificatesAreRefused(t *testing.T) {
	signs := x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	root := newCertificate(certificate{ca: true, usage: signs})
	direct := newCertificate(certificate{issuer: root, dns: deskName})
	between := newCertificate(certificate{issuer: root, ca: true, usage: signs})
	below := newCertificate(certificate{issuer: between, dns: deskName})
	stranger := newCertificate(certificate{ca: true, usage: signs})
	old := func(l *x509.RevocationList) { l.NextUpdate = noon.Add(-time.Second) }
	future := func(l *x509.RevocationList) { l.ThisUpdate = noon.Add(time.Second) }
	for name, tc := range map[string]struct {
		who  *issued
		by   access.Revocation
		want access.Reason // empty: let in
	}{
		"nothing is looked at":      {direct, access.Revocation{}, ""},
		"not on the list":           {direct, access.Revocation{CRLs: lists(crl(t, root, nil, below))}, ""},
		"on the list":               {direct, access.Revocation{CRLs: lists(crl(t, root, nil, direct))}, access.ReasonRevoked},
		"on one list of two":        {direct, access.Revocation{CRLs: lists(crl(t, root, nil), crl(t, root, old, direct))}, access.ReasonRevoked},
		"the list is old":           {direct, access.Revocation{CRLs: lists(crl(t, root, old))}, access.ReasonRevocationUnknown},
		"the list is still to come": {direct, access.Revocation{CRLs: lists(crl(t, root, future))}, access.ReasonRevocationUnknown},
		"an old list, and a new":    {direct, access.Revocation{CRLs: lists(crl(t, root, old), crl(t, root, nil))}, ""},
		"a list of another CA":      {direct, access.Revocation{CRLs: lists(crl(t, between, nil))}, access.ReasonRevocationUnknown},
		"below, with both lists":    {below, access.Revocation{CRLs: lists(crl(t, root, nil), crl(t, between, nil))}, ""},
		"below, its issuer's list":  {below, access.Revocation{CRLs: lists(crl(t, between, nil))}, ""},
		"below, the root's list":    {below, access.Revocation{CRLs: lists(crl(t, root, nil))}, access.ReasonRevocationUnknown},
		"the one between revoked":   {below, access.Revocation{CRLs: lists(crl(t, root, nil, between), crl(t, between, nil))}, access.ReasonRevoked},
		"between, an old list":      {below, access.Revocation{CRLs: lists(crl(t, root, old), crl(t, between, nil))}, access.ReasonRevocationUnknown},
		"key denied":                {direct, access.Revocation{Denied: [][32]byte{pin(direct.leaf)}}, access.ReasonRevoked},
		"another key denied":        {direct, access.Revocation{Denied: [][32]byte{pin(below.leaf)}}, ""},
		"denied between":            {below, access.Revocation{Denied: [][32]byte{pin(between.leaf)}}, access.ReasonRevoked},
		"denied, not on the list":   {direct, access.Revocation{CRLs: lists(crl(t, root, nil)), Denied: [][32]byte{pin(direct.leaf)}}, access.ReasonRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			client := desk()
			client.Certificate.CAs, client.Certificate.Revocation = []*x509.Certificate{root.leaf}, tc.by
			v := verifierOf(t, client)
			if tc.want != "" {
				mustRefuseProof(t, v, connected(tc.who), tc.want)
				return
			}
			if _, err := v.Authenticate(t.Context(), connected(tc.who)); err != nil {
				t.Error(err)
			}
		})
	}
	forged := crl(t, stranger, func(l *x509.RevocationList) {})
	forged.RawIssuer = slices.Clone(root.leaf.RawSubject)
	part := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}
	for name, tc := range map[string]struct {
		list *x509.RevocationList
		want string
	}{
		"signed by another": {forged, "not signed by the CA"},
		"a part of a list":  {crl(t, root, func(l *x509.RevocationList) { l.ExtraExtensions = []pkix.Extension{part} }), "a whole one is needed"},
	} {
		client := desk()
		client.Certificate.CAs, client.Certificate.Revocation.CRLs = []*x509.Certificate{root.leaf}, lists(tc.list)
		if _, err := access.NewVerifier([]access.Client{client}, clockAt(noon)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func lists(all ...*x509.RevocationList) []*x509.RevocationList { return all }
