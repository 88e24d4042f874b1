package report

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Verdict is what the evidence comes to.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "PASS"
	Fail         Verdict = "FAIL"
	NotSupported Verdict = "NOT SUPPORTED"
	// Note is a line that is there to be read, and decides nothing.
	Note Verdict = ""
)

// Form names the form of a report, in it.
const Form = "mintmark audit report v1"

// A Report is the twelve items with what they were made from.
type Report struct {
	Form        string    `json:"form"`
	Name        string    `json:"name"` // the note's key name: the log's origin and /report
	At          time.Time `json:"at"`
	Environment string    `json:"environment"`
	Verdict     Verdict   `json:"verdict"`
	Key         string    `json:"key"`  // the keyring's name of the key that signs
	SPKI        string    `json:"spki"` // its public half, Base64; whether to trust it is the reader's to know
	Build       Build     `json:"build"`
	Host        Host      `json:"host"` // of the process that made the report
	Items       []Item    `json:"items"`
}

// An Item is one of the twelve.
type Item struct {
	ID         string   `json:"id"`
	Title      string   `json:"title"`
	Verdict    Verdict  `json:"verdict"`
	References []string `json:"references"`
	Evidence   []Line   `json:"evidence"`
}

// A Line is one piece of evidence.
type Line struct {
	Verdict Verdict `json:"verdict,omitempty"`
	Subject string  `json:"subject"` // what was looked at: a member, a key, a file
	Found   string  `json:"found"`
}

// items are the twelve. "PCI DSS" is version 4.0.1; "PCI CP" PCI Card Production and Provisioning,
// Logical Security Requirements, by chapter; "SP 800-57" NIST's part 1, revision 5.
var items = []Item{
	{ID: "A1", Title: "Library, token, login and sessions", References: []string{"PCI DSS 2.2.1, 12.3.4", "PCI CP 8 key-management hardware", "SP 800-57 9.2"}},
	{ID: "A2", Title: "Private and secret keys cannot leave the token", References: []string{"PCI DSS 3.6.1.2, 3.6.1.4, 3.7.3", "PCI CP 8 key storage", "SP 800-57 6.2.2.3"}},
	{ID: "A3", Title: "One use for each key", References: []string{"PCI DSS 3.6.1", "PCI CP 8 key usage", "SP 800-57 5.2"}},
	{ID: "A4", Title: "Nothing about a key can be changed", References: []string{"PCI DSS 3.7.7", "PCI CP 8 key storage", "SP 800-57 6.2.2.2"}},
	{ID: "A5", Title: "No key both wraps and decrypts, and no object is unknown", References: []string{"PCI DSS 3.6.1.1, 3.7.7", "PCI CP 8 key usage", "SP 800-57 9.1"}},
	{ID: "A6", Title: "What must not work was tried and does not", References: []string{"PCI DSS 3.6.1.2, 3.7.3", "PCI CP 8 key-management hardware", "SP 800-57 6.2.2"}},
	{ID: "A7", Title: "Each key is the pinned one, and works", References: []string{"PCI DSS 3.7.7", "PCI CP 8 key usage", "SP 800-57 5.4.4"}},
	{ID: "A8", Title: "Sizes, cryptoperiods, certificates, retired keys", References: []string{"PCI DSS 3.7.1, 3.7.4, 3.7.5, 12.3.3", "PCI CP 8 key usage", "SP 800-57 5.3, 5.6.1"}},
	{ID: "A9", Title: "How each key came to be", References: []string{"PCI DSS 3.7.1, 3.7.6, 3.7.8", "PCI CP 8 key generation", "SP 800-57 8.1.5"}},
	{ID: "A10", Title: "Ephemeral keys are destroyed", References: []string{"PCI DSS 3.7.5", "PCI CP 8 key destruction", "SP 800-57 8.3.4"}},
	{ID: "A11", Title: "The audit log is whole, signed and kept elsewhere", References: []string{"PCI DSS 10.2.1, 10.3.2, 10.3.3, 10.3.4, 10.5.1", "PCI CP 6 audit logs", "SP 800-57 9.2"}},
	{ID: "A12", Title: "No card number where none may be; host and build", References: []string{"PCI DSS 3.4.1, 3.5.1, 4.2.1, 6.3.2, 10.6", "PCI CP 4 data security, 6 system security", "SP 800-57 6.2"}},
}

// Make judges facts.
func Make(f Facts) Report {
	r := Report{
		Form: Form, Name: f.Origin + "/report", At: f.Now.UTC().Truncate(time.Second), Environment: f.Environment,
		Key: f.Key, SPKI: base64.StdEncoding.EncodeToString(f.SPKI), Build: f.Build, Host: f.Host,
	}
	judges := []func(Facts) []Line{a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12}
	for i, judge := range judges {
		it := items[i]
		it.Evidence = plain(judge(f))
		it.Verdict = verdictOf(it.Evidence)
		r.Items = append(r.Items, it)
	}
	r.Verdict = Pass
	if slices.ContainsFunc(r.Items, func(i Item) bool { return i.Verdict == Fail }) {
		r.Verdict = Fail
	}
	return r
}

// withheld stands for what cannot stand in a signed note.
const withheld = '·'

// plain makes lines texts that can stand in a signed note: what a token or a file says may hold
// anything.
func plain(lines []Line) []Line {
	clean := func(s string) string {
		return strings.Map(func(r rune) rune {
			if !unicode.IsPrint(r) { // among these what turns the direction of writing
				return withheld
			}
			return r
		}, strings.ToValidUTF8(s, string(withheld)))
	}
	for i := range lines {
		lines[i].Subject, lines[i].Found = clean(lines[i].Subject), clean(lines[i].Found)
	}
	return lines
}

// verdictOf is what lines come to: one failure fails, and nothing shown is not supported.
func verdictOf(lines []Line) Verdict {
	has := func(v Verdict) bool { return slices.ContainsFunc(lines, func(l Line) bool { return l.Verdict == v }) }
	switch {
	case has(Fail):
		return Fail
	case has(NotSupported), !has(Pass):
		return NotSupported
	default:
		return Pass
	}
}

// Item gives one by its id.
func (r Report) Item(id string) Item {
	for _, i := range r.Items {
		if i.ID == id {
			return i
		}
	}
	return Item{}
}
