package main

import (
	"context"
	"errors"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/conformance"
	"github.com/mintmark/mintmark/internal/config"
)

// conformanceFlags are doctor's for trying members with disposable keys.
type conformanceFlags struct{ wanted, inProduction bool }

// conformanceReport is what doctor found out about all members.
type conformanceReport struct {
	Conforms bool                 `json:"conforms"` // every member has what is needed
	Members  []conformance.Report `json:"members"`
}

// errAskFirst keeps doctor from writing to a token that serves.
var errAskFirst = errors.New("--conformance makes keys on the token and destroys them again (labels that begin with " +
	conformance.Prefix + "); on a token of production it wants --in-production as well")

func (f conformanceFlags) check(p *plan) error {
	if p.cfg.Environment == config.Production && !f.inProduction {
		return exit(exitUsage, errAskFirst)
	}
	return nil
}

// conformanceOutput is where and how conform says what it finds.
type conformanceOutput struct {
	out   io.Writer
	form  string // text or json
	meter *meter
}

// conform tries every member and says what it can do. Its error is what mintmark needs, as
// it is configured, and does not find.
func conform(ctx context.Context, p *plan, members []hsm.Config, to conformanceOutput) error {
	var reports []conformance.Report
	var wrong []error
	for _, m := range members {
		to.meter.step("trying everything on %s", m.Name)
		m.CallTimeout = max(keyWithin, m.CallTimeout) // it makes keys
		r := conformance.Run(ctx, m, needsOf(p, m))
		reports = append(reports, r)
		wrong = append(wrong, r.Err())
		to.meter.clear()
		if to.form == "text" {
			r.Print(to.out)
		}
	}
	if to.form == "json" {
		all := conformanceReport{Conforms: errors.Join(wrong...) == nil, Members: reports}
		if err := json.MarshalWrite(to.out, all, jsontext.Multiline(true)); err != nil {
			return err
		}
	}
	return exit(exitHSM, errors.Join(wrong...))
}

// needsOf are the keys that a member's token must be able to serve: those that the keyring
// lists for the process's roles, and for a purpose without any, what it would be given.
func needsOf(p *plan, m hsm.Config) (needs []hsm.Key) {
	for _, purpose := range p.bound() {
		listed := p.keyring.Listed(purpose)
		if len(listed) == 0 {
			listed = []hsm.Key{{Purpose: purpose, Algorithm: purpose.DefaultAlgorithm()}}
		}
		for _, k := range listed {
			signs := k.Algorithm.Public() && purpose != hsm.CardTransport
			if signs || !m.SignaturesOnly {
				needs = append(needs, k)
			}
		}
	}
	return needs
}
