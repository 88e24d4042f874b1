//go:build modules

package conformance_test

import (
	"context"
	"fmt"
	"os"
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
	conformance.Markdown(os.Stdout, names, reports)
	for _, line := range not {
		fmt.Println(line)
	}
}
