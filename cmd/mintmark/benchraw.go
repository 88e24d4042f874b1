package main

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/bench"
	"github.com/mintmark/mintmark/bench/raw"
	"github.com/mintmark/mintmark/internal/secret"
)

// benchRawCommand is the raw loop, for bench and make bench to run in a process of its own.
func benchRawCommand() *cobra.Command {
	var module, label, pinFile string
	var load raw.Load
	var seconds float64
	c := &cobra.Command{
		Use: "raw --work rsa|p256|card", Short: "The raw loop in C, on keys that are there", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			load.For = time.Duration(seconds * float64(time.Second))
			var r raw.Result
			err := withRawToken(module, label, pinFile, func(t *raw.Token) (err error) {
				r, err = t.Run(load)
				return err
			})
			if err != nil {
				return exit(exitHSM, err)
			}
			b, err := json.Marshal(bench.Point{Operations: r.Operations, Took: r.Took, CPU: r.CPU, P50: r.P50, P99: r.P99})
			fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
			return err
		},
	}
	tokenFlags(c, &module, &label, &pinFile)
	c.Flags().StringVar((*string)(&load.Work), "work", "", "what is done: rsa, p256 or card")
	c.Flags().IntVar(&load.Threads, "threads", 1, "threads")
	c.Flags().Float64Var(&seconds, "seconds", 1, "how long")
	c.Flags().BoolVar(&load.Lengths, "lengths", false, "ask C_Sign for the length first, as bindings do")
	c.Flags().BytesHexVar(&load.Keys.RSA, "rsa-id", nil, "CKA_ID of the RSA key, hex")
	c.Flags().BytesHexVar(&load.Keys.P256, "p256-id", nil, "CKA_ID of the P-256 key, hex")
	c.Flags().BytesHexVar(&load.Keys.HMAC, "hmac-id", nil, "CKA_ID of the HMAC key, hex")
	c.Flags().BytesHexVar(&load.Keys.AES, "aes-id", nil, "CKA_ID of the AES key, hex")
	return c
}

// benchDestroyCommand destroys what bench made.
func benchDestroyCommand() *cobra.Command {
	var module, label, pinFile string
	var ids []string
	c := &cobra.Command{
		Use: "destroy --id HEX", Short: "Destroy the keys that bench made", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			return exit(exitHSM, withRawToken(module, label, pinFile, func(t *raw.Token) error {
				var problems []error
				for _, id := range ids {
					b, err := hex.DecodeString(id)
					if err == nil {
						_, err = t.Destroy(b, benchPrefix)
					}
					if err != nil {
						problems = append(problems, fmt.Errorf("CKA_ID %s: %w", id, err))
					}
				}
				return errors.Join(problems...)
			}))
		},
	}
	tokenFlags(c, &module, &label, &pinFile)
	c.Flags().StringSliceVar(&ids, "id", nil, "CKA_ID, `hex`")
	return c
}

func withRawToken(module, label, pinFile string, do func(*raw.Token) error) error {
	pin, err := secret.ReadPINFile(pinFile)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	t, err := raw.Open(module, label, pin)
	if err != nil {
		return err
	}
	return errors.Join(do(t), t.Close())
}
