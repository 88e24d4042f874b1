package httpapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/keys"
)

func TestAdminShowsTheInventory(t *testing.T) {
	read := func(context.Context) keys.Report {
		return keys.Report{Environment: "test", Keys: []keys.Key{{Name: "vault", State: "active"}, {Name: "log"}}}
	}
	m := NewMetrics("test")
	m.Keys(func() []keys.Expiry {
		return []keys.Expiry{{Key: "vault", Purpose: "card-vault", State: "active", What: keys.Cryptoperiod, DaysLeft: -3}}
	},
		func() []keys.Use { return []keys.Use{{Key: "vault", Purpose: "card-vault", Times: 7}} })
	h := NewAdmin(m, slog.New(slog.DiscardHandler), nil, KeyRoutes(read))
	var all keys.Report
	if a := get(h, "/v1/keys"); a.status != 200 || json.Unmarshal([]byte(a.body), &all) != nil || len(all.Keys) != 2 {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	var one keys.Key
	if a := get(h, "/v1/keys/vault"); a.status != 200 || json.Unmarshal([]byte(a.body), &one) != nil || one.State != "active" {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	if a := get(h, "/v1/keys/nobody"); a.status != 404 {
		t.Errorf("answered %d %s", a.status, a.body)
	}
	for _, line := range []string{
		`mintmark_key_days_left{key="vault",purpose="card-vault",state="active",what="cryptoperiod"} -3`,
		`mintmark_key_uses_total{key="vault",purpose="card-vault"} 7`,
	} {
		if a := get(h, "/metrics"); !strings.Contains(a.body, line) {
			t.Errorf("no metric %s", line)
		}
	}
}
