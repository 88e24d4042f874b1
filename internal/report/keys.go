package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// each gives a line for each member that cannot be read, and what judge says of the others.
func each(f Facts, judge func(m Member) []Line) []Line {
	var all []Line
	for _, m := range f.Members {
		if m.Err != "" {
			all = append(all, Line{Fail, "member " + m.Name, "not read: " + m.Err})
			continue
		}
		all = append(all, judge(m)...)
	}
	return all
}

// eachKey is each for every key that stands on the token as its private or secret object.
func eachKey(f Facts, judge func(m Member, k hsm.KeyInventory, o hsm.Observed) Line) []Line {
	return each(f, func(m Member) []Line {
		var all []Line
		for _, k := range m.Inventory.Keys {
			for _, o := range k.Objects {
				if o.Class == hsm.ClassPrivateKey || o.Class == hsm.ClassSecretKey {
					l := judge(m, k, o)
					l.Subject = subject(m, k.Name)
					all = append(all, l)
				}
			}
		}
		return all
	})
}

func subject(m Member, key string) string { return m.Name + ": " + key }

// flags are what an object's flags were found to be against what they must be.
type flags struct {
	o       hsm.Observed
	right   []string // "NAME=true"
	wrong   []string
	unknown []string
}

// must compares flags by name.
func (f *flags) must(is bool, names ...string) {
	for _, n := range names {
		got, said := f.o.Flags[n]
		switch {
		case !said:
			f.unknown = append(f.unknown, n)
		case got != is:
			f.wrong = append(f.wrong, fmt.Sprintf("%s=%t", n, got))
		default:
			f.right = append(f.right, fmt.Sprintf("%s=%t", n, got))
		}
	}
}

// line is the verdict on them. What the token does not say is unsupported.
func (f *flags) line() Line {
	switch {
	case len(f.wrong) > 0:
		return Line{Fail, "", strings.Join(f.wrong, ", ")}
	case len(f.unknown) > 0:
		return Line{NotSupported, "", "the token does not say " + strings.Join(f.unknown, ", ") + "; " + strings.Join(f.right, ", ")}
	default:
		return Line{Pass, "", strings.Join(f.right, ", ")}
	}
}

// a1: library, firmware, serial, login state, session use.
func a1(f Facts) []Line {
	return each(f, func(m Member) []Line {
		t, at := m.Inventory.Token, "member "+m.Name
		lines := []Line{
			{Pass, at, fmt.Sprintf("library %s; token %q, serial %s, model %s, firmware %s", t.Library, t.Label, t.Serial, t.Model, t.Firmware)},
			{Pass, at, m.Login.String()},
		}
		if !strings.HasSuffix(m.Login.State, "_USER_FUNCTIONS") {
			lines[1].Verdict = Fail
		}
		if !m.Login.Required {
			lines = append(lines, Line{Fail, at, "the token asks for no login (CKF_LOGIN_REQUIRED is not set)"})
		}
		if len(m.Login.PINTrouble) > 0 {
			lines = append(lines, Line{Fail, at, "PINs were refused or are not the owner's: " + strings.Join(m.Login.PINTrouble, ", ")})
		}
		limit := Line{Pass, at, fmt.Sprintf("any number of sessions; %d needed", m.Sessions)}
		if t.MaxSessions != 0 {
			limit.Found = fmt.Sprintf("%d sessions at most; %d needed", t.MaxSessions, m.Sessions)
			if t.MaxSessions < uint(m.Sessions) {
				limit.Verdict = Fail
			}
		}
		return append(lines, limit)
	})
}

// a2: nothing private can leave, or ever could.
func a2(f Facts) []Line {
	return eachKey(f, func(_ Member, k hsm.KeyInventory, o hsm.Observed) Line {
		x := flags{o: o}
		x.must(true, "TOKEN", "PRIVATE", "SENSITIVE")
		x.must(false, "EXTRACTABLE")
		if o.Readable {
			x.wrong = append(x.wrong, "its value was read")
		} else {
			x.right = append(x.right, "its value is not given out")
		}
		if k.Provenance == hsm.Imported {
			// It has been outside, and the token must not say otherwise of it.
			x.must(false, "LOCAL")
			l := x.line()
			l.Found += "; imported, as the keyring says"
			return l
		}
		x.must(true, "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "LOCAL")
		switch want := k.Expected().GenMechanism; o.GenMechanism {
		case want:
			x.right = append(x.right, "made by "+want)
		case "":
			x.unknown = append(x.unknown, "KEY_GEN_MECHANISM")
		default:
			x.wrong = append(x.wrong, "made by "+o.GenMechanism)
		}
		return x.line()
	})
}

// a3: the usage flags are those of the purpose and no others.
func a3(f Facts) []Line {
	return eachKey(f, func(_ Member, k hsm.KeyInventory, o hsm.Observed) Line {
		want := k.Expected().Uses
		var wrong []string
		for _, use := range hsm.UsageFlags() {
			if o.Flags[use] != slices.Contains(want, use) { // one that objects of a class do not have is false
				wrong = append(wrong, fmt.Sprintf("%s=%t", use, o.Flags[use]))
			}
		}
		if len(wrong) > 0 {
			return Line{Fail, "", fmt.Sprintf("for %s: %s", k.Purpose, strings.Join(wrong, ", "))}
		}
		return Line{Pass, "", fmt.Sprintf("for %s: %s, and nothing else", k.Purpose, strings.Join(want, ", "))}
	})
}

// a4: no attribute can be changed, and the mechanisms are the purpose's.
func a4(f Facts) []Line {
	return eachKey(f, func(_ Member, k hsm.KeyInventory, o hsm.Observed) Line {
		x := flags{o: o}
		x.must(false, "MODIFIABLE", "COPYABLE")
		switch want := k.Expected().Mechanisms; {
		case o.Allowed == nil:
			x.unknown = append(x.unknown, "ALLOWED_MECHANISMS")
		case slices.Equal(o.Allowed, want):
			x.right = append(x.right, "allows "+strings.Join(want, ", "))
		default:
			x.wrong = append(x.wrong, "allows "+strings.Join(o.Allowed, ", ")+" in place of "+strings.Join(want, ", "))
		}
		return x.line()
	})
}

// a5: nothing unknown, nothing that could take another key out.
func a5(f Facts) []Line {
	return each(f, func(m Member) []Line {
		var lines []Line
		all := slices.Clone(m.Inventory.Unlisted)
		for _, k := range m.Inventory.Keys {
			all = append(all, k.Objects...)
		}
		for _, o := range all {
			if o.Flags["WRAP"] && o.Flags["DECRYPT"] {
				lines = append(lines, Line{Fail, subject(m, o.Label), "it wraps and decrypts: whatever it wraps it can open"})
			}
		}
		for _, o := range m.Inventory.Unlisted {
			what := fmt.Sprintf("%s, CKA_ID %s, is in no entry of the keyring", o.Class, orNone(o.ID))
			if slices.ContainsFunc(m.Inventory.Keys, func(k hsm.KeyInventory) bool { return k.Name == o.Label }) {
				what += ", under the label of one that is"
			}
			lines = append(lines, Line{Fail, subject(m, orNone(o.Label)), what})
		}
		if len(lines) == 0 {
			lines = []Line{{Pass, "member " + m.Name, fmt.Sprintf("%d objects, all of them of keys of the keyring; none wraps and decrypts", len(all))}}
		}
		return lines
	})
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// a6: what was tried on disposable keys.
func a6(f Facts) []Line {
	return each(f, func(m Member) []Line {
		var lines []Line
		for _, t := range m.Tried {
			at := fmt.Sprintf("%s: disposable %s key as %s", m.Name, t.Algorithm, strings.Join(t.For, ", "))
			switch {
			case t.NoSuchKey:
				lines = append(lines, Line{NotSupported, at, "the token makes no such key: " + t.Err})
			case t.Err != "":
				lines = append(lines, Line{Fail, at, "not tried: " + t.Err})
			default:
				lines = append(lines, attempts(at, t.Attempts)...)
			}
		}
		return lines
	})
}

// attempts is a line for each attempt. One that shows nothing is a note, as long as others do.
func attempts(at string, tried []hsm.Attempt) []Line {
	verdicts := map[hsm.AttemptOutcome]Verdict{
		hsm.AttemptRefused: Pass, hsm.AttemptAllowed: Fail, hsm.AttemptUnknown: Fail, hsm.AttemptUnsupported: Note,
	}
	var lines []Line
	for _, a := range tried {
		lines = append(lines, Line{verdicts[a.Outcome], at, fmt.Sprintf("%s: %s (%s)", a.What, a.Outcome, a.Answer)})
	}
	return lines
}

// a7: pins, proofs, certificates.
func a7(f Facts) []Line {
	return each(f, func(m Member) []Line {
		var lines []Line
		for _, k := range m.Inventory.Keys {
			lines = append(lines, proof(m, k))
		}
		return lines
	})
}

func proof(m Member, k hsm.KeyInventory) Line {
	l := Line{Pass, subject(m, k.Name), "answers to its pin " + shortPin(k.Pins[m.Name])}
	switch err, signs := m.Proofs[k.Name]; {
	case k.Problem != "" && k.Problem != hsm.KeyRetired:
		l.Verdict, l.Found = Fail, string(k.Problem)
	case err != "":
		l.Verdict, l.Found = Fail, "does not do its work: "+err
	case signs && k.Purpose == hsm.CardTransport:
		l.Found += "; agreed with just now, and the result was right"
	case signs:
		l.Found += "; signed and verified just now"
	}
	if l.Verdict == Pass && len(k.Chain()) > 0 {
		l.Found += "; its certificate is for it: " + k.Chain()[0].Subject.String()
	}
	return l
}

// shortPin is the beginning of a pin: the keyring has the whole.
func shortPin(p hsm.Pin) string {
	const most = 32
	if s := string(p); len(s) > most {
		return s[:most] + "…"
	}
	return string(p)
}

// soon is how long before an end a report says so.
const soon = 30 * 24 * time.Hour

// a8: sizes, ends, retired keys.
func a8(f Facts) []Line {
	return eachKey(f, func(m Member, k hsm.KeyInventory, o hsm.Observed) Line {
		want := k.Expected().Bits
		switch {
		case o.Bits != want && o.Bits != 0:
			return Line{Fail, "", fmt.Sprintf("%d bits, and not %s", o.Bits, k.Algorithm)}
		case k.State == hsm.Retired:
			return retired(m, k)
		}
		l := lifetime(f.Now, k)
		if o.Bits == 0 && l.Verdict == Pass {
			l.Verdict, l.Found = NotSupported, "the token does not say its size; "+l.Found
		}
		return l
	})
}

// retired is the verdict on a retired key: something new was tried with it.
func retired(m Member, k hsm.KeyInventory) Line {
	answer, tried := m.Retired[k.Name]
	switch {
	case !tried:
		return Line{Note, "", "retired " + k.KeyStatus.Key.Retired + "; other roles' keys are not tried"}
	case answer == "":
		return Line{Fail, "", "it is retired, and made something new just now"}
	default:
		return Line{Pass, "", fmt.Sprintf("retired %s; a use for something new was refused: %s", k.KeyStatus.Key.Retired, answer)}
	}
}

// lifetime is the verdict on a key's ends.
func lifetime(now time.Time, k hsm.KeyInventory) Line {
	l := Line{Pass, "", fmt.Sprintf("%s, %s, made %s", k.Algorithm, k.State, k.Created)}
	for _, e := range []struct {
		name string
		at   time.Time
	}{{"cryptoperiod", k.CryptoperiodEnd()}, {"certificate", k.CertificateEnd()}} {
		left, day := e.at.Sub(now), e.at.Format(time.DateOnly)
		switch {
		case e.at.IsZero():
		case left <= 0:
			l.Verdict = Fail
			l.Found += fmt.Sprintf("; %s ended %s", e.name, day)
		case left <= soon:
			l.Found += fmt.Sprintf("; %s ends SOON, %s, in %d days", e.name, day, int(left.Hours()/24))
		default:
			l.Found += fmt.Sprintf("; %s ends %s, in %d days", e.name, day, int(left.Hours()/24))
		}
	}
	return l
}

// a9: attestations and records of generation.
func a9(f Facts) []Line {
	lines := []Line{{Note, "attestation", "PKCS#11 has no call for a vendor's attestation; ask the vendor's own tool for it"}}
	recorded := map[string]bool{}
	for _, r := range f.Records {
		if r.Err != "" {
			lines = append(lines, Line{Fail, r.Path, r.Err})
			continue
		}
		lines = append(lines, Line{Pass, r.Path, fmt.Sprintf("SHA-256 %s; keys %s; reviewed file %s, signed by %s",
			r.SHA256, strings.Join(r.Keys, ", "), r.Reviews, strings.Join(r.People, " and "))})
		for _, k := range r.Keys {
			recorded[k] = true
		}
	}
	names := map[string]hsm.Key{}
	for _, m := range f.Members {
		for _, k := range m.Inventory.Keys {
			names[k.Name] = k.Key
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		k := names[name]
		switch {
		case recorded[name]:
			lines = append(lines, Line{Pass, name, fmt.Sprintf("%s %s, on record", k.Provenance, k.Created)})
		case f.Production:
			lines = append(lines, Line{Fail, name, fmt.Sprintf("%s %s, and no record of it was given (--record)", k.Provenance, k.Created)})
		default:
			lines = append(lines, Line{NotSupported, name, fmt.Sprintf("%s %s; no record of it, which production needs", k.Provenance, k.Created)})
		}
	}
	return lines
}

// a10: ephemeral keys.
func a10(f Facts) []Line {
	lines := each(f, func(m Member) []Line {
		return []Line{ephemeral("member "+m.Name+", one seal just now", m.Sealed)}
	})
	if f.Service == nil {
		return append(lines, Line{Note, "running service", "not asked: " + f.ServiceErr})
	}
	running := ephemeral("running service, since "+f.Service.Started.UTC().Format(time.RFC3339), f.Service.Ephemeral)
	if running.Verdict == NotSupported { // it has sealed nothing yet
		running.Verdict = Note
	}
	return append(lines, running)
}

func ephemeral(at string, e Ephemeral) Line {
	found := fmt.Sprintf("%d session objects made, %d destroyed, %d left on the token", e.Created, e.Destroyed, e.Left)
	switch {
	case e.Err != "":
		return Line{Fail, at, e.Err}
	case e.Created != e.Destroyed || e.Left != 0:
		return Line{Fail, at, found}
	case e.Created == 0:
		return Line{NotSupported, at, found}
	default:
		return Line{Pass, at, found}
	}
}
