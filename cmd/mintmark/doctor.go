package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/secret"
)

// finding is one thing that doctor looked at.
type finding struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Found  string `json:"found"`
	Remedy string `json:"remedy,omitempty"`
}

// diagnosis is what doctor found out about one member.
type diagnosis struct {
	Member   string    `json:"member"`
	Usable   bool      `json:"usable"`
	KDF      string    `json:"kdf,omitempty"`
	Findings []finding `json:"findings"`
}

// diagnoses are what doctor found out. They are usable if one member is.
type diagnoses struct {
	Usable  bool        `json:"usable"`
	Members []diagnosis `json:"members"`
	// Host is what keeps a process's memory to itself here; the running service's own state is
	// on its admin listener, /v1/service.
	Host []finding `json:"host"`
}

func (d *diagnosis) add(ok bool, what, found, remedy string) {
	if ok {
		remedy = ""
	}
	d.Findings = append(d.Findings, finding{What: what, OK: ok, Found: found, Remedy: remedy})
}

func doctorCommand() *cobra.Command {
	var path, output string
	var try conformanceFlags
	c := &cobra.Command{
		Use: "doctor", Short: "Say what the token is, what it can do, and what it lacks",
		Long: "Opens each member and says what the token is, what it can do, and what it lacks; nothing\n" +
			"is written to it. With --conformance it instead tries all that mintmark asks of a token,\n" +
			"with keys that it makes and destroys again, and recovery from lost sessions, logins and\n" +
			"a finalized module, and fails if something is missing that the configuration needs.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return exit(exitUsage, errors.New("-o must be text or json"))
			}
			p, err := loadPlan(path)
			if err != nil {
				return err
			}
			members, err := memberConfigs(p, p.keyring, nil)
			if err != nil {
				return err
			}
			if try.wanted {
				if err := try.check(p); err != nil {
					return err
				}
				return conform(c.Context(), p, members, conformanceOutput{c.OutOrStdout(), output, meterTo(c.ErrOrStderr())})
			}
			hardened := harden()
			r := diagnoses{Host: hostFindings(hostState(), hardened)}
			for _, m := range members {
				d := diagnose(c.Context(), m, p.bound())
				r.Members = append(r.Members, d)
				r.Usable = r.Usable || d.Usable
			}
			if err := r.print(c.OutOrStdout(), output); err != nil {
				return err
			}
			if !r.Usable {
				return exit(exitHSM, errors.New("no member is usable"))
			}
			return nil
		},
	}
	configFlag(c, &path)
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	c.Flags().BoolVar(&try.wanted, "conformance", false, "try everything, with disposable keys")
	c.Flags().BoolVar(&try.inProduction, "in-production", false, "allow --conformance to write to a token of production")
	return c
}

func diagnose(ctx context.Context, m hsm.Config, purposes []hsm.Purpose) diagnosis {
	d := diagnosis{Member: m.Name}
	pin, err := secret.ReadPINFile(m.PINFile)
	pin.Wipe()
	d.add(err == nil, "PIN file", found(err, m.PINFile+", readable by one user alone"), openRemedy(err))
	if err != nil {
		return d // without a PIN there is no login to try
	}
	t, err := hsm.Open(ctx, m)
	d.add(err == nil, "login and self-test", found(err, "logged in, keys found, known answers right"), openRemedy(err))
	if err != nil {
		return d
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		if err := t.Close(closing); err != nil {
			d.add(false, "logout", err.Error(), "A call hangs inside the module; look at the HSM and its network.")
		}
	}()
	d.Usable = true
	d.KDF = t.KDF()
	d.describe(ctx, t, purposes)
	return d
}

// describe adds what only an open token can tell; purposes are those that keys are needed
// for.
func (d *diagnosis) describe(ctx context.Context, t *hsm.Token, purposes []hsm.Purpose) {
	info, err := t.Info(ctx)
	d.add(err == nil, "module", found(err, info.Library), "The token does not answer; look at the HSM and its network.")
	d.add(err == nil, "token", found(err, fmt.Sprintf("label %q, serial %s, model %s, firmware %s", info.Label, info.Serial, info.Model, info.Firmware)), "The token does not answer; look at the HSM and its network.")
	for _, probe := range t.Probes() {
		text := "gives the known answer; in use"
		if !probe.OK {
			text = "not on this token: " + probe.Err
		}
		// A way that is not there is no fault as long as another one is.
		d.add(true, probe.Name, text, "")
	}
	best, worst, err := roundTrips(ctx, t)
	d.add(err == nil, "round trip", found(err, fmt.Sprintf("%v to %v over %d calls", best, worst, pings)), "The token does not answer; look at the HSM and its network.")
	d.add(true, "sessions", found(nil, fmt.Sprintf("%s at most; %d needed", sessionLimit(info.MaxSessions), t.Sessions())), "")
	if info.MaxSessions != 0 && info.MaxSessions < uint(t.Sessions()) {
		d.add(false, "session limit", fmt.Sprintf("the token allows %d sessions", info.MaxSessions), "Lower rsaConcurrency and ecConcurrency of this member.")
	}
	status := t.Status()
	d.add(status.State == hsm.Ready, "state", status.String(), "The service's own state is on its admin listener: /readyz.")
	for _, k := range t.Keys() {
		ok := k.Problem == "" || k.Problem == hsm.KeyRetired
		text := proved[k.Algorithm]
		if k.Purpose == hsm.CardTransport {
			text = "CKM_ECDH1_DERIVE gives the known answer for its pin"
		}
		if k.Problem != "" {
			text = string(k.Problem)
		}
		if ok && k.Algorithm.Public() && k.Problem == "" {
			if err := t.SelfTest(ctx, k.Name); err != nil {
				ok, text = false, err.Error()
			}
		}
		d.add(ok, "key "+k.Name+" for "+string(k.Purpose), text, keyRemedy(k.Problem))
	}
	for _, purpose := range purposes {
		_, err := t.Active(purpose)
		var why *hsm.KeyError
		switch {
		case err == nil:
		case errors.As(err, &why) && why.Problem != hsm.KeyNotListed:
			d.add(false, "purpose "+string(purpose), err.Error(), "Mend the key as its own line says.")
		default:
			d.add(false, "purpose "+string(purpose), err.Error(), fmt.Sprintf("mintmark keys generate --purpose %s --name NAME --write", purpose))
		}
	}
	for _, o := range t.Unlisted() {
		d.add(false, "unlisted key", fmt.Sprintf("%s, CKA_ID %s, label %q", o.Class, o.ID, o.Label), "It is never used. List it in the keyring, or remove it from the token.")
	}
	d.add(true, "memory erasure", hsm.MemoryErasure, "")
}

// proved says which mechanism was called, and gave the known answer, for a key to be
// reported as well.
var proved = map[hsm.Algorithm]string{
	hsm.RSA2048:    "CKM_RSA_PKCS signs and verifies against its pin",
	hsm.RSA3072:    "CKM_RSA_PKCS signs and verifies against its pin",
	hsm.RSA4096:    "CKM_RSA_PKCS signs and verifies against its pin",
	hsm.P256:       "CKM_ECDSA signs and verifies against its pin",
	hsm.AES256:     "CKM_AES_GCM opens the sample it is pinned by",
	hsm.HMACSHA256: "CKM_SHA256_HMAC gives the value it is pinned by",
	hsm.TDEA:       "CKM_DES3_CBC gives the check value and the digest it is pinned by",
}

// pings is how often doctor asks the token for a sign of life.
const pings = 20

func roundTrips(ctx context.Context, t *hsm.Token) (best, worst time.Duration, err error) {
	for range pings {
		began := time.Now()
		if err := t.Ping(ctx); err != nil {
			return 0, 0, err
		}
		took := time.Since(began).Round(time.Microsecond)
		worst = max(worst, took)
		if best == 0 || took < best {
			best = took
		}
	}
	return best, worst, nil
}

func sessionLimit(n uint) string {
	if n == 0 {
		return "any number"
	}
	return strconv.FormatUint(uint64(n), 10)
}

func found(err error, well string) string {
	if err != nil {
		return err.Error()
	}
	return well
}

func openRemedy(err error) string {
	return cmp.Or(adviceOn(err), "Look at the HSM, its network, and the module's own configuration and log.")
}

func keyRemedy(p hsm.KeyProblem) string {
	switch p {
	case hsm.KeyMissing:
		return "Restore the key from the HSM's backup, or retire it in the keyring and generate another."
	case hsm.KeyAmbiguous:
		return "Remove the objects that have the same CKA_ID and do not belong."
	case hsm.KeyLost:
		return "Somebody put another key in its place. Find out who; restore the key, or pin the new one after review."
	case hsm.KeyUnpinned:
		return "Add this member's pin to the keyring after comparing the key with that of another member."
	default:
		return ""
	}
}

func (r diagnoses) print(out io.Writer, form string) error {
	if form == "json" {
		return json.MarshalWrite(out, r, jsontext.Multiline(true))
	}
	for _, d := range r.Members {
		d.print(out)
	}
	fmt.Fprintln(out, "host")
	printDiagnosis(out, r.Host)
	return nil
}

func (d diagnosis) print(out io.Writer) {
	fmt.Fprintf(out, "member %s", d.Member)
	if d.KDF != "" {
		fmt.Fprintf(out, ", key derivation: %s", d.KDF)
	}
	fmt.Fprintln(out)
	printDiagnosis(out, d.Findings)
}

func printDiagnosis(out io.Writer, all []finding) {
	for _, f := range all {
		mark := "ok  "
		if !f.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(out, "%s  %s: %s\n", mark, f.What, f.Found)
		if f.Remedy != "" {
			fmt.Fprintf(out, "      %s\n", f.Remedy)
		}
	}
}
