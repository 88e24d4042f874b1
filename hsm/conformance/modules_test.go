//go:build modules

package conformance_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/hsm/conformance"
	"github.com/mintmark/mintmark/hsm/hsmtest/realtoken"
	"github.com/mintmark/mintmark/softhsm"
)

// Every module that can be had on this machine, as one table for docs/hsm. It prints what
// it finds; what a module lacks is no failure of the test, what the suite leaves on a token
// is.
func TestModules(t *testing.T) {
	var names []string
	var reports []conformance.Report
	var not []string
	for _, module := range []struct {
		name string
		make func(t softhsm.TB) (*softhsm.Token, error)
	}{
		{"SoftHSM", func(t softhsm.TB) (*softhsm.Token, error) { return softhsm.New(t), nil }},
		{"NSS", func(t softhsm.TB) (*softhsm.Token, error) { return realtoken.NSS(t), nil }},
		{"openCryptoki", realtoken.OpenCryptoki},
		{"tpm2-pkcs11", realtoken.TPM2},
	} {
		t.Run(module.name, func(t *testing.T) {
			tok, err := module.make(t)
			if err != nil {
				not = append(not, fmt.Sprintf("%s: not run: %v", module.name, err))
				return
			}
			r := conformance.Run(context.Background(), on(tok), conformance.Everything)
			if len(r.Left) > 0 || r.Error != "" {
				t.Errorf("left %v, error %s", r.Left, r.Error)
			}
			names, reports = append(names, module.name), append(reports, r)
		})
	}
	markdown(os.Stdout, names, reports)
	for _, line := range not {
		fmt.Println(line)
	}
}

// markdown writes several reports as one table: a capability a line, a module a column,
// and under it the notes of what is not there.
func markdown(out io.Writer, names []string, reports []conformance.Report) {
	var rows []string
	cells := map[string]map[int]conformance.Result{}
	for i, r := range reports {
		for _, c := range r.Results {
			if cells[c.Capability] == nil {
				cells[c.Capability] = map[int]conformance.Result{}
				rows = append(rows, c.Capability)
			}
			cells[c.Capability][i] = c
		}
	}
	fmt.Fprintf(out, "| capability | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, row := range rows {
		fmt.Fprintf(out, "| %s |", row)
		for i := range reports {
			fmt.Fprintf(out, " %s |", cells[row][i].Outcome)
		}
		fmt.Fprintln(out)
	}
	for i, r := range reports {
		fmt.Fprintf(out, "\n%s (%s):\n\n", names[i], r.Date)
		for _, c := range r.Results {
			if c.Note != "" {
				fmt.Fprintf(out, "- %s: %s: %s\n", c.Capability, c.Outcome, c.Note)
			}
		}
	}
}
