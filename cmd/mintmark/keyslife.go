package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
)

// keysStateCommand moves a key on in its life: activate and retire.
func keysStateCommand(verb, short string, to hsm.State) *cobra.Command {
	var path string
	var write bool
	c := &cobra.Command{
		Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
		Long: "Prints the keyring in which the key has its new state, for review, or writes it with\n" +
			"--write. The service takes it up on SIGHUP, without a request that fails: see\n" +
			"docs/ceremony.md. A key goes from next to active to retired, and not back.",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := loadKeysPlan(path)
			if err != nil {
				return err
			}
			next := p.keyring.Clone()
			if err := next.SetState(args[0], to, time.Now().UTC().Format(time.DateOnly)); err != nil {
				return exit(exitConfiguration, err)
			}
			if err := next.Follows(p.keyring); err != nil {
				return exit(exitConfiguration, err)
			}
			if write {
				return exit(exitConfiguration, next.Save(p.cfg.Keyring))
			}
			return printKeyring(c, next)
		},
	}
	configFlag(c, &path)
	c.Flags().BoolVar(&write, "write", false, "write the keyring file")
	return c
}

func printKeyring(c *cobra.Command, ring *hsm.Keyring) error {
	if err := ring.Check(); err != nil {
		return exit(exitConfiguration, err)
	}
	b, err := yaml.MarshalWithOptions(ring, yaml.IndentSequence(true))
	if err != nil {
		return err
	}
	_, err = c.OutOrStdout().Write(b)
	return err
}

func keysDestroyCommand() *cobra.Command {
	var path, member string
	c := &cobra.Command{
		Use: "destroy NAME", Short: "Draft the ceremony that destroys a retired key", Args: cobra.ExactArgs(1),
		Long: "Destroying a key takes the two people of a ceremony. This prints the file that they\n" +
			"review and sign; mintmark ceremony run does it.",
		RunE: func(c *cobra.Command, args []string) error {
			p, err := loadKeysPlan(path)
			if err != nil {
				return err
			}
			k, ok := p.keyring.Find(args[0])
			switch {
			case !ok:
				return exit(exitConfiguration, &hsm.KeyError{Name: args[0], Problem: hsm.KeyNotListed})
			case k.State != hsm.Retired:
				return exit(exitConfiguration, fmt.Errorf("key %s is %s: %w", k.Name, k.State, hsm.ErrNotRetired))
			}
			if member == "" {
				member = p.cfg.HSM.Members[0].Name
			}
			pin, ok := k.Pins[member]
			if !ok {
				return exit(exitConfiguration, errors.New("the key has no pin for this member"))
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), destroyDraft, k.Name, p.cfg.Environment, member, k.Name, pin)
			return err
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&member, "member", "", "`name` of the HSM member; default: the first")
	return c
}

const destroyDraft = `# To be reviewed, completed and signed by both people: docs/ceremony.md.
ceremony: destroy-%s
environment: %s
member: %s
people:
  - {name: "", ssh: ""}
  - {name: "", ssh: ""}
destroy:
  - key: %q
    pin: %q
`
