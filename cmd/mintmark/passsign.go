package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/signer"
)

func passSignCommand() *cobra.Command {
	var keys keysFlags
	var name, out string
	c := &cobra.Command{
		Use: "sign FOLDER --out FILE", Short: "Sign a pass with a key in the token", Args: cobra.ExactArgs(1),
		Long: "Builds the pass of a folder and signs it with a pass key in the token, whose certificate\n" +
			"the keyring names. The signature is on record before the file is there: with SQLite,\n" +
			"whose database one process writes, that is while no server runs.",
		RunE: func(c *cobra.Command, args []string) error {
			b, err := passkit.ReadFolder(args[0])
			if err != nil {
				return err
			}
			pass, found, err := b.Pass()
			if err != nil {
				return errors.Join(printFindings(c.ErrOrStderr(), found), err)
			}
			return withToken(c.Context(), keys, func(p *plan, t *hsm.Token) error {
				id, err := passIdentity(p.keyring, name, pass.PassTypeIdentifier)
				if err != nil {
					return exit(exitConfiguration, err)
				}
				pkpass, err := signPass(c.Context(), p, t, id, b, pass)
				var refused *passkit.RefusedError
				if errors.As(err, &refused) {
					err = errors.Join(printFindings(c.ErrOrStderr(), refused.Findings), err)
				}
				if err != nil {
					return err
				}
				return writeNewFile(out, pkpass)
			})
		},
	}
	keys.register(c)
	c.Flags().StringVar(&name, "key", "", "`name` of the pass key; default: the one whose certificate is for the pass's type")
	outFlag(c, &out)
	return c
}

// passIdentity finds the pass key called name, or the one that has a certificate for the
// pass type.
func passIdentity(ring *hsm.Keyring, name, passType string) (signer.PassIdentity, error) {
	for _, k := range ring.Keys {
		chain := k.Chain()
		if k.Purpose != hsm.Pass || k.State != hsm.Active || (name != "" && k.Name != name) {
			continue
		}
		if len(chain) == 0 {
			if name == "" {
				continue
			}
			return signer.PassIdentity{}, uncertified(name)
		}
		if name == "" && passkit.ReadMarks(chain[0]).PassTypeIdentifier != passType {
			continue
		}
		return signer.PassIdentity{Key: k.Name, Certificate: chain[0], Intermediates: append(chain[1:], passkit.AppleIntermediates()...)}, nil
	}
	if name != "" {
		return signer.PassIdentity{}, fmt.Errorf("the keyring has no active pass key called %s", name)
	}
	return signer.PassIdentity{}, fmt.Errorf("no pass key of the keyring has a certificate for %s", passType)
}

// signPass signs, and has it on record before it gives the pass.
func signPass(ctx context.Context, p *plan, t *hsm.Token, id signer.PassIdentity, b *passkit.Bundle, pass *passkit.Pass) (pkpass []byte, err error) {
	s, err := openStore(ctx, p.cfg)
	if err != nil {
		return nil, exit(exitStorage, err)
	}
	defer func() { err = errors.Join(err, exit(exitStorage, s.Close())) }()
	log := audit.New(s, time.Now)
	ticket, err := log.Open(record.Intent{Operation: record.SignPass, Refs: map[string]string{
		"passType": pass.PassTypeIdentifier, "serial": pass.SerialNumber, "key": id.Key,
	}})
	if err != nil {
		return nil, err
	}
	held, err := signer.New(t).SignPass(ctx, ticket, id, b, time.Now())
	if err != nil {
		failed := record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}
		return nil, errors.Join(err, exit(exitStorage, record.Fail(ctx, log, ticket, failed)))
	}
	receipt, err := record.Conclude(ctx, log, ticket, record.Done(held.Digest()))
	if err != nil {
		return nil, exit(exitStorage, err)
	}
	return held.Release(receipt)
}
