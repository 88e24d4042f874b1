package main

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/provisioning"
)

// putEnablements is an enablements that remembers what was put, and knows one product.
type putEnablements struct {
	err error
	put map[string][]provisioning.EnablementRule
}

func (e *putEnablements) CheckEnablement(tenant string, rules []provisioning.EnablementRule) error {
	for _, r := range rules {
		if r.Product != "" && r.Product != "gold" {
			return &provisioning.FieldError{Member: "rules[0]", Problem: "product is none of the configuration's"}
		}
	}
	if tenant == "" {
		return &provisioning.FieldError{Member: "tenant", Problem: "is missing"}
	}
	return nil
}

func (e *putEnablements) PutEnablement(_ context.Context, who provisioning.Caller, rules []provisioning.EnablementRule) (provisioning.Enablement, error) {
	if e.err == nil {
		e.put[who.Tenant] = rules
	}
	return provisioning.Enablement{}, e.err
}

// Equal enablements are equal bytes, and what is approved is what is put, twice as well as once.
func TestApprovedEnablementIsPut(t *testing.T) {
	const one = `{"tenant":"bank","environment":"test","rules":[{"product":"gold","binFrom":"520424","binTo":"520425","percentage":10},{"percentage":0}]}`
	const same = ` {"rules" : [{"percentage":10, "binTo":"520425","binFrom":"520424","product":"g\u006fld"},{"product":"","percentage":0}], "environment":"test","tenant":"bank"}`
	k := enablementKind{&putEnablements{put: map[string][]provisioning.EnablementRule{}}, "test"}
	for _, document := range []string{one, same} {
		got, err := k.Canonical(t.Context(), []byte(document))
		if err != nil || string(got) != one {
			t.Errorf("%s: %s, %v", document, got, err)
		}
	}
	for range 2 {
		if err := k.Apply(t.Context(), []byte(one)); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]provisioning.EnablementRule{"bank": {{Product: "gold", BINFrom: "520424", BINTo: "520425", Percentage: 10}, {}}}
	if got := k.enablements.(*putEnablements).put; !reflect.DeepEqual(got, want) {
		t.Errorf("put %v", got)
	}
}

// What could not be put is refused when it is proposed and when it is approved, and who proposes
// is told why.
func TestEnablementsThatCannotBeProposed(t *testing.T) {
	const good = `{"tenant":"bank","environment":"test","rules":[{"product":"gold","percentage":10}]}`
	for name, c := range map[string]struct{ old, new, want string }{
		"no JSON":              {good, "rules", "send {"},
		"a member too many":    {`"tenant"`, `"all":true,"tenant"`, "send {"},
		"a rule's too many":    {`"product"`, `"bin":"520424","product"`, "send {"},
		"a member twice":       {`"tenant"`, `"tenant":"other","tenant"`, "send {"},
		"in capitals":          {`"tenant"`, `"Tenant"`, "send {"},
		"something behind":     {`]}`, `]}{}`, "send {"},
		"no rules":             {`[{"product":"gold","percentage":10}]`, "null", "send {"},
		"meant for production": {`"test"`, `"production"`, "this service is for test"},
		"of no tenant":         {`"bank"`, `""`, "tenant is missing"},
		"an unknown product":   {"gold", "tin", "rules[0] product is none"},
	} {
		t.Run(name, func(t *testing.T) {
			k := enablementKind{&putEnablements{put: map[string][]provisioning.EnablementRule{}}, "test"}
			document := []byte(strings.Replace(good, c.old, c.new, 1))
			_, proposed := k.Canonical(t.Context(), document)
			for _, err := range []error{proposed, k.Apply(t.Context(), document)} {
				var refused *approval.DocumentError
				if !errors.As(err, &refused) || !strings.Contains(refused.What, c.want) {
					t.Errorf("answered %v", err)
				}
			}
			if len(k.enablements.(*putEnablements).put) != 0 {
				t.Error("it was put")
			}
		})
	}
}

// One who was faster is a reason that the approver is told; a database that is away is none.
func TestEnablementThatCouldNotBePut(t *testing.T) {
	away := errors.New("away")
	for _, c := range []struct {
		err     error
		refused bool
	}{{provisioning.ErrEnablementChanged, true}, {away, false}} {
		k := enablementKind{&putEnablements{err: c.err}, "test"}
		err := k.Apply(t.Context(), []byte(`{"tenant":"bank","environment":"test","rules":[]}`))
		var refused *approval.DocumentError
		if !errors.Is(err, c.err) || errors.As(err, &refused) != c.refused {
			t.Errorf("%v: answered %v", c.err, err)
		}
	}
}
