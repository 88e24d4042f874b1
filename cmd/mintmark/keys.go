package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
)

func keysCommand() *cobra.Command {
	return group("keys", "Make and list keys on the token", keysGenerateCommand(), keysAdoptCommand(), keysListCommand(), keysShowCommand(), keysCertifyCommand(),
		keysCSRCommand(), keysImportCertificateCommand(),
		keysStateCommand("activate", "Make the next key the active one, and retire the one before", hsm.Active),
		keysStateCommand("retire", "Retire a key without another in its place", hsm.Retired),
		keysDestroyCommand())
}

// keysFlags are the flags of every command on keys.
type keysFlags struct{ config, member string }

func (f *keysFlags) register(c *cobra.Command) {
	configFlag(c, &f.config)
	c.Flags().StringVar(&f.member, "member", "", "`name` of the HSM member; default: the first")
}

// withToken opens one member's token for one command.
func withToken(ctx context.Context, f keysFlags, use func(p *plan, t *hsm.Token) error) error {
	return withKeyring(ctx, f, func(r *hsm.Keyring) *hsm.Keyring { return r }, use)
}

// withKeyring is withToken by another keyring than the file's.
func withKeyring(ctx context.Context, f keysFlags, other func(*hsm.Keyring) *hsm.Keyring, use func(p *plan, t *hsm.Token) error) error {
	p, err := loadKeysPlan(f.config)
	if err != nil {
		return err
	}
	members, err := memberConfigs(p, other(p.keyring), nil)
	if err != nil {
		return err
	}
	chosen := slices.IndexFunc(members, func(m hsm.Config) bool { return f.member == "" || m.Name == f.member })
	if chosen < 0 {
		return exit(exitUsage, fmt.Errorf("no member is called %s", f.member))
	}
	members[chosen].CallTimeout = max(keyWithin, members[chosen].CallTimeout)
	t, err := hsm.Open(ctx, members[chosen])
	if err != nil {
		return exit(openStatus(err), err)
	}
	err = use(p, t)
	closing, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return errors.Join(err, exit(exitHSM, t.Close(closing)))
}

// keyWithin bounds one call of a command that makes keys. It is longer than a service waits: a
// slow token takes its time for a long RSA key, and one that was given up is left behind.
const keyWithin = 2 * time.Minute

// openStatus is the exit status of a command that cannot open its token.
func openStatus(err error) int {
	if errors.Is(err, hsm.ErrLoginRefused) {
		return exitRefusedPIN
	}
	return exitHSM
}

func keysGenerateCommand() *cobra.Command {
	var f keysFlags
	var n hsm.NewKey
	var write bool
	c := &cobra.Command{
		Use:   "generate --name NAME --purpose PURPOSE",
		Short: "Make a key in the token and print its keyring entry",
		Long: "Makes a key in the token, proves it, and prints its entry for the keyring, which is a\n" +
			"reviewed file: add the entry yourself, or have it added with --write. The service\n" +
			"uses the key after SIGHUP or its next start.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := n.Check(); err != nil {
				return exit(exitUsage, err)
			}
			return withToken(c.Context(), f, func(p *plan, t *hsm.Token) error {
				return generateKey(c, p, t, n, write)
			})
		},
	}
	f.register(c)
	c.Flags().StringVar(&n.Name, "name", "", "the key's `name`: its entry in the keyring and its CKA_LABEL")
	newKeyFlags(c, &n)
	c.Flags().BoolVar(&write, "write", false, "add the entry to the keyring file")
	return c
}

// newKeyFlags are the flags that say what a key is to the keyring, but for its name.
func newKeyFlags(c *cobra.Command, n *hsm.NewKey) {
	c.Flags().StringVar((*string)(&n.Purpose), "purpose", "", fmt.Sprintf("its one use, of %v", hsm.Purposes()))
	c.Flags().StringVar((*string)(&n.Algorithm), "algorithm", "", "type and size; default: what the purpose asks for")
	c.Flags().StringVar((*string)(&n.State), "state", string(hsm.Active), "active or next")
}

func keysAdoptCommand() *cobra.Command {
	var f keysFlags
	var n hsm.NewKey
	var id string
	c := &cobra.Command{
		Use:   "adopt --name NAME --purpose PURPOSE --id HEX",
		Short: "Prove an imported key and print its keyring entry",
		Long: "Finds a key that was imported into the token with the vendor's tools (a network's zone\n" +
			"key, say), proves that it does what its purpose asks for, and prints its entry for the\n" +
			"keyring. The pin of a TDEA key begins with its key check value: compare it with the\n" +
			"network's letter before you add the entry.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := n.Check(); err != nil {
				return exit(exitUsage, err)
			}
			return withToken(c.Context(), f, func(_ *plan, t *hsm.Token) error {
				k, err := t.Adopt(c.Context(), n, id, time.Now())
				if err != nil {
					return exit(exitHSM, err)
				}
				entry, err := yaml.MarshalWithOptions([]hsm.Key{k}, yaml.IndentSequence(true))
				if err == nil {
					fmt.Fprintf(c.OutOrStdout(), "%s", entry)
				}
				return err
			})
		},
	}
	f.register(c)
	c.Flags().StringVar(&n.Name, "name", "", "what the keyring shall call the key")
	newKeyFlags(c, &n)
	c.Flags().StringVar(&id, "id", "", "its CKA_ID, hex")
	return c
}

func generateKey(c *cobra.Command, p *plan, t *hsm.Token, n hsm.NewKey, write bool) error {
	// The keyring would refuse the entry, after the key was made.
	if other, err := p.keyring.Active(n.Purpose); err == nil && write && n.State == hsm.Active && !n.Purpose.Several() {
		return exit(exitConfiguration, fmt.Errorf("%s is active for %s; make this key with --state next, or make that one next or retired first", other.Name, n.Purpose))
	}
	k, narrowed, err := t.Generate(c.Context(), n, time.Now())
	if err != nil {
		return exit(exitHSM, err)
	}
	entry, err := yaml.MarshalWithOptions([]hsm.Key{k}, yaml.IndentSequence(true))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s", entry)
	if !narrowed {
		fmt.Fprintln(c.ErrOrStderr(), "warning: the token took neither CKA_ALLOWED_MECHANISMS nor CKA_COPYABLE=false; the usage flags alone bound this key")
	}
	if !write {
		return nil
	}
	ring := &hsm.Keyring{Environment: p.keyring.Environment, Keys: append(slices.Clone(p.keyring.Keys), k)}
	return exit(exitConfiguration, ring.Save(p.cfg.Keyring))
}
