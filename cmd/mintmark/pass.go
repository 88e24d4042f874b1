package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/passkit"
)

func passCommand() *cobra.Command {
	return group("pass", "Make, check, sign and read Wallet passes",
		passNewCommand(), passValidateCommand(), passBuildCommand(), passSignCommand(), passVerifyCommand(), passInspectCommand())
}

// readBundles reads what a command is given: a pass's folder, a .pkpass, or the passes of a
// .pkpasses.
func readBundles(path string) ([]*passkit.Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		b, err := passkit.ReadFolder(path)
		return []*passkit.Bundle{b}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	content, err := io.ReadAll(io.LimitReader(f, passkit.MaxPassesSize+1))
	if err != nil {
		return nil, err
	}
	if strings.EqualFold(filepath.Ext(path), ".pkpasses") {
		return passkit.OpenPasses(content)
	}
	b, err := passkit.Open(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return []*passkit.Bundle{b}, nil
}

// outputFlag is the flag that chooses between lines and JSON.
func outputFlag(c *cobra.Command, format *string) {
	c.Flags().StringVarP(format, "output", "o", "text", "`format`: text or json")
}

func checkOutput(format string) error {
	if format != "text" && format != "json" {
		return exit(exitUsage, errors.New("--output must be text or json"))
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func passNewCommand() *cobra.Command {
	style := string(passkit.StoreCard)
	c := &cobra.Command{
		Use: "new FOLDER", Short: "Make a pass's folder to begin with", Args: cobra.ExactArgs(1),
		Long: "Makes a folder with a pass.json and images of one colour in their places. Files that are\n" +
			"there are not replaced.",
		RunE: func(c *cobra.Command, args []string) error {
			b, err := passkit.NewTemplate(passkit.Style(style))
			if err != nil {
				return exit(exitUsage, err)
			}
			if err := b.WriteFolder(args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "made %s; replace passTypeIdentifier and teamIdentifier in pass.json by your own\n", args[0])
			return err
		},
	}
	c.Flags().StringVar(&style, "style", style, fmt.Sprintf("`style`, of %v", passkit.Styles()))
	return c
}

func passValidateCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "validate FOLDER|FILE", Short: "Say what is wrong with a pass, where, and what to do", Args: cobra.ExactArgs(1),
		Long: "Fails if there is an error: what devices, or Apple's own builder, refuse. Warnings are\n" +
			"what is shown otherwise than meant, ignored, or not known here.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			bundles, err := readBundles(args[0])
			if err != nil {
				return err
			}
			found := []passkit.Finding{}
			for _, b := range bundles {
				found = append(found, b.Validate()...)
			}
			if format == "json" {
				err = printJSON(c.OutOrStdout(), found)
			} else {
				err = printFindings(c.OutOrStdout(), found)
			}
			if err == nil && passkit.HasErrors(found) {
				err = errors.New("the pass has errors")
			}
			return err
		},
	}
	outputFlag(c, &format)
	return c
}

func printFindings(w io.Writer, found []passkit.Finding) error {
	for _, f := range found {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "nothing is wrong")
		return err
	}
	return nil
}

func passBuildCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "build FOLDER --out FILE", Short: "Pack a pass with its manifest, to be signed elsewhere", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			b, err := passkit.ReadFolder(args[0])
			if err != nil {
				return err
			}
			if found := b.Validate(); passkit.HasErrors(found) {
				return errors.Join(printFindings(c.ErrOrStderr(), found), errors.New("not built: the pass has errors"))
			}
			packed, err := b.Build(time.Now())
			if err != nil {
				return err
			}
			return writeNewFile(out, packed)
		},
	}
	outFlag(c, &out)
	return c
}

// outFlag is the flag that names the file to make.
func outFlag(c *cobra.Command, out *string) {
	c.Flags().StringVar(out, "out", "", "`file` to make; one that is there is not replaced")
	_ = c.MarkFlagRequired("out") // the flag is there
}

// writeNewFile makes a file that is not there.
func writeNewFile(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

func passVerifyCommand() *cobra.Command {
	var root, format string
	c := &cobra.Command{
		Use: "verify FILE", Short: "Check a signed pass of anybody's", Args: cobra.ExactArgs(1),
		Long: "Tells for each of hash, signature, chain, identifier and time whether it holds, and fails\n" +
			"if one does not. Passes must be signed below Apple's root, or the one given.",
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			roots, err := passRoots(root)
			if err != nil {
				return err
			}
			bundles, err := readBundles(args[0])
			if err != nil {
				return err
			}
			reports, bad := make([]passkit.Report, len(bundles)), 0
			for i, b := range bundles {
				if reports[i] = passkit.Verify(b, passkit.VerifyOptions{Roots: roots, Now: time.Now()}); !reports[i].OK() {
					bad++
				}
			}
			if err := printReports(c.OutOrStdout(), reports, format); err != nil {
				return err
			}
			if bad > 0 {
				return errors.New("the pass does not verify")
			}
			return nil
		},
	}
	c.Flags().StringVar(&root, "root", "", "`file` with the root to trust in place of Apple's, PEM or DER")
	outputFlag(c, &format)
	return c
}

func passRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return passkit.AppleRoots(), nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	certs, err := passkit.ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("--root: %w", err)
	}
	return poolOf(certs), nil
}

func printReports(w io.Writer, reports []passkit.Report, format string) error {
	if format == "json" {
		if len(reports) == 1 {
			return printJSON(w, reports[0])
		}
		return printJSON(w, reports)
	}
	for i, r := range reports {
		if len(reports) > 1 {
			fmt.Fprintf(w, "pass %d\n", i+1)
		}
		for _, res := range r.Results {
			if _, err := fmt.Fprintln(w, res); err != nil {
				return err
			}
		}
	}
	return nil
}

func passInspectCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "inspect FOLDER|FILE", Short: "Say what a pass is, without verifying anything", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			bundles, err := readBundles(args[0])
			if err != nil {
				return err
			}
			for _, b := range bundles {
				s := passkit.Inspect(b)
				if format == "json" {
					err = printJSON(c.OutOrStdout(), s)
				} else {
					printSummary(c.OutOrStdout(), s)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	outputFlag(c, &format)
	return c
}

func printSummary(w io.Writer, s passkit.Summary) {
	line := func(name string, value any) { fmt.Fprintf(w, "%-14s %v\n", name, value) }
	line("pass type", s.PassTypeIdentifier)
	line("serial number", s.SerialNumber)
	line("team", s.TeamIdentifier)
	line("organization", s.OrganizationName)
	line("description", s.Description)
	line("styles", s.Styles)
	if s.WebServiceURL != "" {
		line("web service", s.WebServiceURL)
	}
	if s.Voided {
		line("voided", "yes")
	}
	for _, f := range s.Files {
		line("file", fmt.Sprintf("%s, %d bytes", f.Name, f.Size))
	}
	if s.Signature != nil {
		line("signed", s.Signature.SigningTime.UTC().Format(time.RFC3339))
		for _, cert := range s.Signature.Certificates {
			line("certificate", fmt.Sprintf("%s, until %s", cert.Subject, cert.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	for _, u := range s.Unread {
		line("unread", u)
	}
}
