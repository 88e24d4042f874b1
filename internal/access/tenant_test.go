package access_test

import (
	"errors"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
)

func TestGrantReachesTheClientsOwnTenantUnlessItNamesOthers(t *testing.T) {
	for _, tc := range []struct {
		name    string
		tenants []string
		reaches map[string]bool
	}{
		{"no tenants", nil, map[string]bool{"shop": true, "other": false, "": false, "Shop": false}},
		{"another", []string{"other"}, map[string]bool{"shop": false, "other": true}},
		{"several", []string{"shop", "other"}, map[string]bool{"shop": true, "other": true, "third": false}},
		{"a star is no pattern", []string{"*"}, map[string]bool{"shop": false, "other": false, "*": true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := bank()
			c.Tenant, c.Grants = "shop", []access.Grant{{Right: access.ManagePasses, Tenants: tc.tenants}}
			who, err := authenticate(verifierOf(t, c), signed(with()))
			if err != nil {
				t.Fatal(err)
			}
			for tenant, want := range tc.reaches {
				err := who.MayIn(access.ManagePasses, tenant)
				if (err == nil) != want || (err != nil && !errors.Is(err, access.ErrForbidden)) {
					t.Errorf("tenant %q: %v", tenant, err)
				}
				if err := who.MayIn(access.SignCards, tenant); !errors.Is(err, access.ErrForbidden) {
					t.Errorf("a right that is not granted: %v", err)
				}
			}
		})
	}
}

// What takes many requests is not granted for one.
func TestWhatTakesManyRequestsIsNotForSingleUse(t *testing.T) {
	for _, r := range []access.Right{access.ManagePasses, access.ViewConsole} {
		c := bank()
		c.Grants = []access.Grant{{Right: r, SingleUse: true}}
		if _, err := access.NewVerifier([]access.Client{c}, time.Now); err == nil {
			t.Errorf("%s: accepted", r)
		}
	}
}
