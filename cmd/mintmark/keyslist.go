package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/keys"
)

// inventory is what the admin listener shows of the keys.
func (s *service) inventory(ctx context.Context) keys.Report {
	var tokens []keys.Token
	for _, m := range s.hsm.Members() {
		tokens = append(tokens, m)
	}
	return keys.Read(ctx, s.keyring.Load(), tokens, time.Now())
}

func keysListCommand() *cobra.Command {
	var f keysFlags
	var output string
	c := &cobra.Command{
		Use: "list", Short: "List the keyring's keys as the tokens have them, and objects that are not listed", Args: cobra.NoArgs,
		Long: "Reads every member of the HSM, or the one that --member names, at this moment. -o json\n" +
			"gives all that was read, as GET /v1/keys on the admin listener of a running service\n" +
			"does; only that counts what the keys were used for.",
		RunE: func(c *cobra.Command, _ []string) error {
			return inspectKeys(c, f, output, func(r keys.Report) error { return printKeys(c.OutOrStdout(), r) })
		},
	}
	f.register(c)
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

func keysShowCommand() *cobra.Command {
	var f keysFlags
	var output string
	c := &cobra.Command{
		Use: "show NAME", Short: "Show everything about one key, with its attributes read from the tokens now", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return inspectKeys(c, f, output, func(r keys.Report) error { return printKey(c.OutOrStdout(), r.Keys[0]) }, args[0])
		},
	}
	f.register(c)
	c.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return c
}

// inspectKeys reads the members and prints what they have, of one key if a name is given.
func inspectKeys(c *cobra.Command, f keysFlags, output string, text func(keys.Report) error, only ...string) error {
	if output != "text" && output != "json" {
		return exit(exitUsage, errors.New("-o must be text or json"))
	}
	r, opened, err := readMembers(c.Context(), f)
	if err != nil {
		return err
	}
	for _, name := range only {
		r.Keys = slices.DeleteFunc(r.Keys, func(k keys.Key) bool { return k.Name != name })
		if len(r.Keys) == 0 {
			return exit(exitUsage, fmt.Errorf("the keyring has no key %s", name))
		}
	}
	switch {
	case output == "json" && len(only) > 0:
		err = json.MarshalWrite(c.OutOrStdout(), r.Keys[0], jsontext.Multiline(true), json.Deterministic(true))
	case output == "json":
		err = json.MarshalWrite(c.OutOrStdout(), r, jsontext.Multiline(true), json.Deterministic(true))
	default:
		err = text(r)
	}
	return errors.Join(err, opened)
}

// readMembers reads every member, or the one that is asked for. opened is the first error of
// a member that could not be; the report has the others.
func readMembers(ctx context.Context, f keysFlags) (r keys.Report, opened, err error) {
	p, err := loadKeysPlan(f.config)
	if err != nil {
		return r, nil, err
	}
	members, err := memberConfigs(p, p.keyring, nil)
	if err != nil {
		return r, nil, err
	}
	if f.member != "" {
		members = slices.DeleteFunc(members, func(m hsm.Config) bool { return m.Name != f.member })
	}
	if len(members) == 0 {
		return r, nil, exit(exitUsage, fmt.Errorf("no member is called %s", f.member))
	}
	r = keys.Read(ctx, p.keyring, nil, time.Now())
	for _, m := range members {
		inv, err := readMember(ctx, m)
		if err != nil && opened == nil {
			opened = exit(openStatus(err), err)
		}
		r.Add(m.Name, inv, err)
	}
	if opened != nil && len(members) == 1 {
		return r, nil, opened
	}
	return r, opened, nil
}

func readMember(ctx context.Context, m hsm.Config) (inv hsm.Inventory, err error) {
	t, err := hsm.Open(ctx, m)
	if err != nil {
		return inv, err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		err = errors.Join(err, t.Close(closing))
	}()
	return t.Inventory(ctx)
}

func printKeys(out io.Writer, r keys.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tPURPOSE\tALGORITHM\tSTATE\tPROVENANCE\tCREATED\tDAYS LEFT\tCERTIFICATE\tON THE TOKEN")
	for _, k := range r.Keys {
		certificate := "-"
		if k.Certificate != nil {
			certificate = fmt.Sprint(k.Certificate.DaysLeft)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Name, k.Purpose, k.Algorithm, k.State, k.Provenance, k.Created, daysLeft(k), certificate, onTokens(k))
	}
	for _, o := range r.Unlisted {
		label := o.Label
		if label == "" {
			label = "-"
		}
		fmt.Fprintf(w, "%s\t-\t%s\t-\t-\t-\t-\t-\tnot in the keyring, never used (CKA_ID %s)%s\n", label, o.Class, o.ID, onMember(r, o.Member))
	}
	for _, m := range r.Members {
		if m.Error != "" {
			fmt.Fprintf(w, "-\t-\t-\t-\t-\t-\t-\t-\tmember %s: %s\n", m.Name, m.Error)
		}
	}
	return w.Flush()
}

func onMember(r keys.Report, name string) string {
	if len(r.Members) < 2 {
		return ""
	}
	return " on " + name
}

// daysLeft is what is left of a key's cryptoperiod, which a retired one has behind it.
func daysLeft(k keys.Key) string {
	if k.State == string(hsm.Retired) {
		return "-"
	}
	return fmt.Sprint(k.CryptoperiodDaysLeft)
}

// onTokens says in a few words what the members have of a key: once, if all have the same.
func onTokens(k keys.Key) string {
	var all []string
	for _, m := range k.Members {
		all = append(all, m.Condition())
	}
	if len(slices.Compact(slices.Clone(all))) == 1 {
		return all[0]
	}
	for i, m := range k.Members {
		all[i] = m.Member + " " + all[i]
	}
	return strings.Join(all, "; ")
}

func printKey(out io.Writer, k keys.Key) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, text)
		}
	}
	line("name", k.Name)
	line("purpose", k.Purpose)
	line("algorithm", k.Algorithm)
	line("CKA_ID", k.ID)
	line("known outside as", k.Alias)
	line("state", k.State)
	line("provenance", k.Provenance)
	line("created", fmt.Sprintf("%s (%d days ago)", k.Created, k.AgeDays))
	line("retired", k.Retired)
	line("cryptoperiod ends", fmt.Sprintf("%s (%s days left)", k.CryptoperiodEnd, daysLeft(k)))
	if c := k.Certificate; c != nil {
		line("certificate", c.Subject)
		line("  issued by", c.Issuer)
		line("  serial, SHA-256", c.Serial+", "+c.SHA256)
		line("  ends", fmt.Sprintf("%s (%d days left)", c.NotAfter.UTC().Format(time.RFC3339), c.DaysLeft))
	}
	for _, m := range k.Members {
		printOnMember(line, m)
	}
	return w.Flush()
}

func printOnMember(line func(string, any), m keys.KeyMember) {
	state := "answers to its pin"
	if m.Problem != "" {
		state = m.Problem
	}
	line("member "+m.Member, state)
	line("  URI", m.URI)
	line("  pin", m.Pin)
	line("  differs", strings.Join(m.Deviations, ", "))
	for _, o := range m.Objects {
		line("  "+o.Class, strings.TrimSpace(fmt.Sprintf("%s %s", o.KeyType, bits(o.Bits))))
		var set, clear []string
		for _, name := range slices.Sorted(maps.Keys(o.Flags)) {
			if o.Flags[name] {
				set = append(set, name)
			} else {
				clear = append(clear, name)
			}
		}
		line("    true", strings.Join(set, " "))
		line("    false", strings.Join(clear, " "))
		line("    made by", o.GenMechanism)
		line("    mechanisms", strings.Join(o.Allowed, " "))
		if o.Readable {
			line("    value", "CAN BE READ")
		}
	}
}

func bits(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("(%d bits)", n)
}
