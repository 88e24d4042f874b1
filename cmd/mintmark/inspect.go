package main

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/inspect"
)

// maxInspected bounds what is looked at, in bytes.
const maxInspected = 16 << 20

func inspectCommand() *cobra.Command {
	var keyFile string
	c := &cobra.Command{
		Use: "inspect FILE", Short: "Say what is wrong with an app's log, request or answer", Args: cobra.ExactArgs(1),
		Long: "Reads the log of a device, or the JSON of a request or an answer (- for standard input),\n" +
			"and says what is wrong: double Base64, a SubjectPublicKeyInfo in place of a point, wrong\n" +
			"lengths, the wrong scheme or chain. With the key of a test certificate it decrypts the\n" +
			"payload and looks at that too. It repeats no card data.",
		RunE: func(c *cobra.Command, args []string) error {
			in := c.InOrStdin()
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return exit(exitUsage, err)
				}
				defer func() { _ = f.Close() }()
				in = f
			}
			text, err := io.ReadAll(io.LimitReader(in, maxInspected))
			if err != nil {
				return err
			}
			leaf, err := loadLeafKey(keyFile)
			if err != nil {
				return exit(exitUsage, err)
			}
			faults := 0
			for _, f := range inspect.Text(string(text), leaf) {
				fmt.Fprintln(c.OutOrStdout(), f)
				if !f.OK {
					faults++
				}
			}
			if faults > 0 {
				return fmt.Errorf("%d faults", faults)
			}
			return nil
		},
	}
	c.Flags().StringVar(&keyFile, "leaf-key", "", "`file` with the private key of the test certificate that was sealed to (PEM, PKCS#8)")
	return c
}

// loadLeafKey reads the private key of a test certificate; nil without one.
func loadLeafKey(path string) (*ecdh.PrivateKey, error) {
	if path == "" {
		return nil, nil
	}
	der, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		key, err = x509.ParseECPrivateKey(der)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("the leaf key must be an EC key in PEM")
	}
	return ec.ECDH()
}
