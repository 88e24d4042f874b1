package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/ceremony"
)

func ceremonyVerifyCommand() *cobra.Command {
	var path, key string
	c := &cobra.Command{
		Use: "verify TRANSCRIPT", Short: "Check a ceremony's transcript, without a token", Args: cobra.ExactArgs(1),
		Long: "Makes sure that the transcript is signed by the audit-report key that --key names (PEM)\n" +
			"or that the keyring of --config pins, that its plan is signed by the people in it, and\n" +
			"prints what was done.",
		RunE: func(c *cobra.Command, args []string) error {
			trusted, err := reportKey(path, key)
			if err != nil {
				return err
			}
			t, _, err := readTranscript(args[0], trusted)
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "%s on %s (%s), %s to %s\n", t.Ceremony, t.Member, t.Environment, t.Began.Format(time.RFC3339), t.Ended.Format(time.RFC3339))
			for _, p := range t.People {
				fmt.Fprintf(out, "signed by %s with %s\n", p.Person, p.Key)
			}
			for _, s := range t.Steps {
				fmt.Fprintf(out, "%s %s: %s\n", s.Do, s.Key, s.Found)
			}
			if t.Failed != "" {
				return fmt.Errorf("the ceremony failed: %s", t.Failed)
			}
			fmt.Fprintln(out, "the transcript holds together")
			return nil
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&key, "key", "", "`file` with the audit-report key's public half (PEM), in place of --config")
	return c
}

// reportKey gives the test for audit-report keys that are trusted, by their SPKI.
func reportKey(config, file string) (func(spki []byte) bool, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, exit(exitUsage, err)
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return nil, exit(exitUsage, fmt.Errorf("%s is no public key in PEM", file))
		}
		return func(spki []byte) bool { return bytes.Equal(spki, block.Bytes) }, nil
	}
	p, err := loadKeysPlan(config)
	if err != nil {
		return nil, err
	}
	return pinnedReportKey(p.keyring), nil
}

// pinnedReportKey is the test for audit-report keys that a keyring pins.
func pinnedReportKey(ring *hsm.Keyring) func(spki []byte) bool {
	pins := spkiPins(ring, hsm.AuditReport)
	return func(spki []byte) bool { return pins[sha256.Sum256(spki)] }
}

// readTranscript reads a transcript that a trusted key has signed.
func readTranscript(path string, trusted func(spki []byte) bool) (ceremony.Transcript, *ceremony.Plan, error) {
	none := ceremony.Transcript{}
	b, err := os.ReadFile(path)
	if err != nil {
		return none, nil, exit(exitUsage, err)
	}
	i := bytes.LastIndex(b, []byte("\n\n"))
	if i < 0 {
		return none, nil, fmt.Errorf("%s: %w: it is not signed", path, ceremony.ErrTranscript)
	}
	t, plan, err := ceremony.ParseTranscript(string(b[:i+1]))
	if err != nil {
		return none, nil, fmt.Errorf("%s: %w", path, err)
	}
	if !trusted(t.Key) {
		return none, nil, fmt.Errorf("%s: %w: its key is none that is trusted", path, ceremony.ErrTranscript)
	}
	name, _, ok := bytes.Cut(bytes.TrimPrefix(b[i+2:], []byte("— ")), []byte(" "))
	if !ok {
		return none, nil, fmt.Errorf("%s: %w: it is not signed", path, ceremony.ErrTranscript)
	}
	key, err := audit.NewCheckpointKey(string(name), t.Key)
	if err == nil {
		_, err = note.Open(b, note.VerifierList(key))
	}
	if err != nil {
		return none, nil, fmt.Errorf("%s: %w: its signature is wrong", path, ceremony.ErrTranscript)
	}
	return t, plan, nil
}

func ceremonyReplayCommand() *cobra.Command {
	var f ceremonyFlags
	var key string
	c := &cobra.Command{
		Use: "replay TRANSCRIPT --key PEM", Short: "Do a ceremony again on a fresh token, and compare what comes of it", Args: cobra.ExactArgs(1),
		Long: "Carries the plan of a transcript out on the member of --config, beginning with the\n" +
			"keyring that it began with, and compares the keyrings: all is equal but the keys\n" +
			"themselves and the days. The token must have none of the keys that are made.",
		RunE: func(c *cobra.Command, args []string) error {
			if key == "" {
				return exit(exitUsage, errors.New("--key is needed: the audit-report key's public half"))
			}
			trusted, err := reportKey("", key)
			if err != nil {
				return err
			}
			t, plan, err := readTranscript(args[0], trusted)
			if err != nil {
				return err
			}
			p, err := loadKeysPlan(f.config)
			if err != nil {
				return err
			}
			before, err1 := hsm.ParseKeyring([]byte(t.Before))
			want, err2 := hsm.ParseKeyring([]byte(t.After))
			if err := errors.Join(err1, err2); err != nil {
				return fmt.Errorf("%w: its keyrings cannot be read", ceremony.ErrTranscript)
			}
			r := &rite{c: c, flags: f, p: p, ring: before, plan: plan, people: t.People, began: time.Now().UTC().Truncate(time.Second), meter: meterTo(c.ErrOrStderr())}
			defer r.meter.clear()
			if err := plan.Check(before, r.began); err != nil {
				return exit(exitConfiguration, err)
			}
			if err := r.run(c.Context()); err != nil {
				return err
			}
			if a, b := ceremony.Structure(want), ceremony.Structure(r.done.Ring); !slices.Equal(a, b) {
				return fmt.Errorf("the keyrings differ:\n%v\n%v", a, b)
			}
			r.say("the keyring has the structure of the one in the transcript")
			return nil
		},
	}
	f.register(c)
	c.Flags().StringVar(&key, "key", "", "`file` with the public half (PEM) of the audit-report key that signed the transcript")
	return c
}
