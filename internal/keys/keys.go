// Package keys is what people are shown of the keys: the inventory, read from every token at
// the moment they ask, beside what the keyring says of each key, and how long each may still
// be used.
//
//	report := keys.Read(ctx, ring, tokens, time.Now())
//	for _, e := range keys.Expiries(ring, time.Now()) { … }
//
// It asks and computes; it changes nothing and decides nothing. A token that does not answer
// is in the report with its error, beside those that do.
package keys

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// Token is what is asked of a member; *hsm.Token is one. Inventory's error says that the
// token did not answer.
type Token interface {
	Name() string
	Inventory(ctx context.Context) (hsm.Inventory, error)
}

var _ Token = (*hsm.Token)(nil)

// A Report is the inventory of all members, by key.
type Report struct {
	At            time.Time  `json:"at"`
	Environment   string     `json:"environment"`
	KeyringSHA256 string     `json:"keyringSha256"`
	Members       []Member   `json:"members"`
	Keys          []Key      `json:"keys"`
	Unlisted      []Unlisted `json:"unlisted"`
}

// A Member is a token, or why it could not be asked.
type Member struct {
	Name  string    `json:"name"`
	Token *hsm.Info `json:"token,omitempty"`
	Error string    `json:"error,omitempty"`
}

// A Key is one entry of the keyring, and what the members have of it.
type Key struct {
	Name       string `json:"name"`
	Purpose    string `json:"purpose"`
	Algorithm  string `json:"algorithm"`
	ID         string `json:"id"` // CKA_ID, hex
	State      string `json:"state"`
	Provenance string `json:"provenance"`
	Alias      string `json:"alias,omitempty"`
	Created    string `json:"created"`
	Retired    string `json:"retired,omitempty"`
	AgeDays    int    `json:"ageDays"`
	// CryptoperiodEnd is the last day of the cryptoperiod; what is left of it is negative
	// when it is past. A retired key has none left to speak of.
	CryptoperiodEnd      string       `json:"cryptoperiodEnd"`
	CryptoperiodDaysLeft int          `json:"cryptoperiodDaysLeft"`
	Certificate          *Certificate `json:"certificate,omitempty"`
	// Uses counts the units of work given to the key by this process, on all members.
	Uses    uint64      `json:"uses"`
	Members []KeyMember `json:"members"`
}

// A Certificate is the one that the keyring names for a key.
type Certificate struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hex
	SHA256    string    `json:"sha256"` // of the certificate, hex
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"` // of the chain: the first to end
	DaysLeft  int       `json:"daysLeft"`
}

// A KeyMember is a key on one member.
type KeyMember struct {
	Member string `json:"member"`
	URI    string `json:"uri"` // RFC 7512
	Pin    string `json:"pin,omitempty"`
	// Problem is what keeps the key from being used there; empty if nothing does.
	Problem string `json:"problem,omitempty"`
	// Deviations are how it differs from what is made for its purpose.
	Deviations []string       `json:"deviations"`
	Objects    []hsm.Observed `json:"objects"`
}

// Condition says in a few words whether the key can be used there, and how it differs.
func (m KeyMember) Condition() string {
	text := "answers to its pin"
	if m.Problem != "" {
		text = m.Problem
	}
	if len(m.Deviations) > 0 {
		text += ", but " + strings.Join(m.Deviations, ", ")
	}
	return text
}

// NotBound reports whether all that keeps the key from being used is that the process has no
// role for it.
func (m KeyMember) NotBound() bool { return m.Problem == string(hsm.KeyNotBound) }

// An Unlisted object stands on a token, and no entry of the keyring names it. Nothing here
// uses it.
type Unlisted struct {
	Member string `json:"member"`
	hsm.Observed
}

// Read asks every token, one after the other.
func Read(ctx context.Context, ring *hsm.Keyring, tokens []Token, now time.Time) Report {
	r := Report{At: now.UTC(), Environment: ring.Environment, KeyringSHA256: ring.Digest(), Unlisted: []Unlisted{}}
	for _, k := range ring.Keys {
		r.Keys = append(r.Keys, describe(k, now))
	}
	for _, t := range tokens {
		inv, err := t.Inventory(ctx)
		r.Add(t.Name(), inv, err)
	}
	return r
}

// Add takes one member's inventory in, or why there is none.
func (r *Report) Add(member string, inv hsm.Inventory, err error) {
	if err != nil {
		r.Members = append(r.Members, Member{Name: member, Error: err.Error()})
		return
	}
	r.Members = append(r.Members, Member{Name: member, Token: &inv.Token})
	for _, k := range inv.Keys {
		i := slices.IndexFunc(r.Keys, func(own Key) bool { return own.Name == k.Name })
		if i < 0 {
			continue // the keyring has changed in between
		}
		r.Keys[i].Uses += k.Uses
		r.Keys[i].Members = append(r.Keys[i].Members, KeyMember{
			Member: member, URI: uri(inv.Token, k), Pin: string(k.Pins[member]), Problem: string(k.Problem),
			Deviations: append([]string{}, k.Deviations...), Objects: append([]hsm.Observed{}, k.Objects...),
		})
	}
	for _, o := range inv.Unlisted {
		r.Unlisted = append(r.Unlisted, Unlisted{member, o})
	}
}

// describe is what the keyring says of a key.
func describe(k hsm.Key, now time.Time) Key {
	out := Key{
		Name: k.Name, Purpose: string(k.Purpose), Algorithm: string(k.Algorithm), ID: k.ID, State: string(k.State),
		Provenance: string(k.Provenance), Alias: k.Alias, Created: k.Created, Retired: k.Retired,
		CryptoperiodEnd: k.CryptoperiodEnd().Format(time.DateOnly), CryptoperiodDaysLeft: daysUntil(now, k.CryptoperiodEnd()),
		Members: []KeyMember{},
	}
	if created, err := time.Parse(time.DateOnly, k.Created); err == nil {
		out.AgeDays = max(0, int(now.Sub(created)/(24*time.Hour)))
	}
	if chain := k.Chain(); len(chain) > 0 {
		leaf := chain[0]
		sum := sha256.Sum256(leaf.Raw)
		out.Certificate = &Certificate{
			Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(), Serial: leaf.SerialNumber.Text(16), SHA256: hex.EncodeToString(sum[:]),
			NotBefore: leaf.NotBefore, NotAfter: k.CertificateEnd(), DaysLeft: daysUntil(now, k.CertificateEnd()),
		}
	}
	return out
}

// daysUntil counts whole days from now, rounded down: 0 on the last one, -1 from its end on.
func daysUntil(now, end time.Time) int {
	left := end.Sub(now)
	days := int(left / (24 * time.Hour))
	if left < 0 && left%(24*time.Hour) != 0 {
		days--
	}
	return days
}

// uri names a key on a token (RFC 7512, 2.3). Slots are not in it: their numbers change.
func uri(info hsm.Info, k hsm.KeyInventory) string {
	kind := "secret-key"
	if k.Algorithm.Public() {
		kind = "private"
	}
	var id strings.Builder
	if b, err := hex.DecodeString(k.ID); err == nil {
		for _, octet := range b {
			fmt.Fprintf(&id, "%%%02X", octet)
		}
	}
	return "pkcs11:token=" + escape(info.Label) + ";serial=" + escape(info.Serial) + ";id=" + id.String() + ";object=" + escape(k.Name) + ";type=" + kind
}

// escape writes all but unreserved characters as RFC 3986 has them.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}
