package path_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/mintmark/mintmark/internal/provisioning/path"
)

var update = flag.Bool("update", false, "write the tables into docs/decisions.md")

func TestEveryCaseIsDecidedAsItsRowSays(t *testing.T) {
	for _, c := range path.Cases() {
		t.Run(c.Rule+"/"+c.Given, func(t *testing.T) {
			got := path.Decide(c.Attempt, path.Defaults())
			if got.Path != c.Path {
				t.Errorf("path is %s, want %s (%v, score %d)", got.Path, c.Path, got.Reasons, got.Score)
			}
			if diff := cmp.Diff(c.Required, got.Required, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("required (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryRuleHasARow(t *testing.T) {
	for _, r := range path.Rules() {
		shown := slices.ContainsFunc(path.Cases(), func(c path.Case) bool {
			return c.Rule == r.Name && slices.Contains(path.Decide(c.Attempt, path.Defaults()).Reasons, r.Name)
		})
		if !shown {
			t.Errorf("no row shows rule %s", r.Name)
		}
		if r.Section == "" || r.Sentence == "" {
			t.Errorf("rule %s has no sentence", r.Name)
		}
	}
}

// The documentation's tables are those that were just run.
func TestDocumentationIsTheTable(t *testing.T) {
	const file, begin, end = "../../../docs/decisions.md", "<!-- tables -->\n", "<!-- end of tables -->\n"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), begin)
	shown, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the tables", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+path.Markdown()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(path.Markdown(), shown); diff != "" {
		t.Errorf("docs/decisions.md differs from the rules; go test ./internal/provisioning/path -update writes it:\n%s", diff)
	}
}

// attempts draws any attempt there can be.
func attempts() *rapid.Generator[path.Attempt] {
	return rapid.Custom(func(t *rapid.T) path.Attempt {
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		when := rapid.Custom(func(t *rapid.T) time.Time {
			if rapid.IntRange(0, 5).Draw(t, "never") == 0 {
				return time.Time{}
			}
			return now.Add(-rapid.SampledFrom([]time.Duration{-time.Hour, 0, time.Minute, 9 * time.Minute, time.Hour, 24 * time.Hour, 61 * 24 * time.Hour, 9000 * time.Hour}).Draw(t, "age"))
		})
		channel := rapid.SampledFrom([]string{"sms", "email", ""})
		a := path.Attempt{
			Apple:       rapid.SampledFrom(path.Colors()).Draw(t, "apple"),
			ReasonCodes: rapid.SliceOfN(rapid.SampledFrom([]string{"0G", "01", "0D"}), 0, 2).Draw(t, "codes"),
			Source:      rapid.SampledFrom([]path.Source{path.InApp, path.Wallet}).Draw(t, "source"),
			AfterYellow: rapid.Bool().Draw(t, "afterYellow"),
			MultiFactor: rapid.Bool().Draw(t, "multiFactor"),
			Now:         now,
		}
		a.Passcodes = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) path.Passcode {
			return path.Passcode{VerifiedAt: when.Draw(t, "verified"), Channel: channel.Draw(t, "channel"), Since: when.Draw(t, "since")}
		}), 0, 2).Draw(t, "passcodes")
		if rapid.Bool().Draw(t, "called") {
			a.Call = &path.Call{At: when.Draw(t, "call"), Verified: rapid.Bool().Draw(t, "verifiedByCall")}
		}
		if rapid.Bool().Draw(t, "credentialsKnown") {
			a.Credentials = &path.Credentials{ChangedAt: when.Draw(t, "changed"), Channel: channel.Draw(t, "changeChannel")}
		}
		if rapid.Bool().Draw(t, "deviceKnown") {
			a.Device = &path.Device{AppSince: when.Draw(t, "app"), DeviceSince: when.Draw(t, "device"), Associated: rapid.Bool().Draw(t, "associated")}
		}
		if rapid.Bool().Draw(t, "loginKnown") {
			a.Login = &path.Login{Usual: rapid.Bool().Draw(t, "usual")}
		}
		return a
	})
}

// verifiedNow says, in other words than the rules do, that a cardholder was verified by a
// passcode to a tenured channel, or by the call centre, just now.
func verifiedNow(a path.Attempt, th path.Thresholds) bool {
	for _, p := range a.Passcodes {
		age, tenure := a.Now.Sub(p.VerifiedAt), p.VerifiedAt.Sub(p.Since)
		if age >= 0 && age < th.PasscodeFresh && !p.Since.IsZero() && tenure >= th.ChannelTenure {
			return true
		}
	}
	return calledNow(a, th)
}

func calledNow(a path.Attempt, th path.Thresholds) bool {
	return a.Call != nil && a.Call.Verified && a.Now.Sub(a.Call.At) >= 0 && a.Now.Sub(a.Call.At) < th.CallFresh
}

// Whatever the attempt, what must be is.
func TestMustsHoldForEveryAttempt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, th := attempts().Draw(t, "attempt"), path.Defaults()
		d := path.Decide(a, th)
		zeroG := a.Apple == path.Orange || slices.Contains(a.ReasonCodes, "0G")
		inApp := slices.ContainsFunc(d.Required, func(r path.Requirement) bool { return r.FulfilledBy(path.InAppVerification) })
		free := d.Path != path.Red && len(d.Required) == 0 // a token may become active
		for _, must := range []struct {
			name   string
			broken bool
		}{
			{"Red declines", a.Apple == path.Red && d.Path != path.Red},
			{"0G stays Orange or Red", zeroG && d.Path != path.Orange && d.Path != path.Red},
			{"0G asks for its step", zeroG && free && !verifiedNow(a, th)},
			{"multi-factor authentication at least once", free && !a.MultiFactor && !verifiedNow(a, th)},
			{"no In-App Verification after Yellow or 0G", inApp && (a.Apple != path.Green || zeroG)},
			{"no In-App Verification of an attempt from the app", inApp && a.Source == path.InApp},
			{"Green asks for nothing", d.Path == path.Green && len(d.Required) > 0},
			{"what is not known of credentials only the call centre makes up for", free && a.Credentials == nil && !calledNow(a, th)},
			{"Red asks for nothing", d.Path == path.Red && len(d.Required) > 0},
			{"score", d.Score < 0 || d.Score > path.MaxScore},
		} {
			if must.broken {
				t.Errorf("%s does not hold: %+v", must.name, d)
			}
		}
		// Nothing is won by keeping from us that credentials changed.
		less := a
		less.Credentials = nil
		if got := path.Decide(less, th); !free && d.Path != path.Red && got.Path != path.Red && len(got.Required) == 0 {
			t.Errorf("without what is known of credentials it is %+v, with it %+v", got, d)
		}
		// More evidence never makes an attempt worse.
		better := a
		better.Passcodes = append(slices.Clone(a.Passcodes), path.Passcode{VerifiedAt: a.Now, Channel: "letter", Since: a.Now.Add(-1000 * time.Hour)})
		if got := path.Decide(better, th); len(got.Required) > len(d.Required) {
			t.Errorf("with a passcode more is required: %+v, before %+v", got, d)
		}
	})
}
