package integration

import (
	"encoding/json"
	"strings"

	"github.com/google/uuid"
)

func (r *rehearsal) operators() {
	r.t.Helper()
	r.send("importCards", 413, rawBody([]byte(strings.Repeat("{}\n", 1001))))
	r.send("rekeyCards", 200)
	r.send("rekeyCards", 400, rawBody([]byte("no JSON")))
	r.send("putEnablement", 400, member("rules", nil))
	r.send("putEnablement", 409, member("environment", "production"))
	r.send("putEnablement", 200, member("rules", []any{}))
	r.send("signCard", 403, member("externalCardId", "demo-visa-1"))
	r.send("searchCards", 403)
	r.send("putEnablement", 200)
	for _, id := range []string{"importCards", "rekeyCards", "putEnablement"} {
		r.send(id, 415, typed("text/plain"))
	}
	for id, op := range r.ops {
		if op.Responses.Value("421") != nil { // those on both listeners too: their examples go to the API's
			r.send(id, 421, onAdmin, func(s *sending) { s.host = "evil.example" })
		}
	}
	for _, id := range []string{"getLive", "getReady", "getHealth", "getMetrics", "getService", "listKeys", "getKey", "listLogs", "getLog", "listEntries", "listCheckpoints", "getTile"} {
		r.send(id, 200)
	}
	r.send("getKey", 404, named("name", "no-key"))
	r.send("getTile", 404, named("path", "no-tile"))
	for _, id := range []string{"listEntries", "listCheckpoints"} {
		r.send(id, 400, queried("from", "-1"))
	}
	for _, id := range []string{"getCheckpoint", "getLog", "listEntries", "listCheckpoints", "getTile"} {
		r.send(id, 200, queried("log", "0"))
		r.send(id, 404, queried("log", "no-log"))
		r.send(id, 400, onAdmin, twice("log"))
	}
	for _, id := range []string{"listEntries", "listCheckpoints"} {
		r.send(id, 400, twice("from"))
		r.send(id, 400, twice("limit"))
	}
	for _, id := range []string{"importCards", "putEnablement"} {
		r.send(id, 400, twice("tenant"))
	}
	r.changes()
}

func (r *rehearsal) changes() {
	r.t.Helper()
	r.propose()
	r.send("proposeChange", 422, member("kind", "no-kind"))
	r.send("proposeChange", 422, func(s *sending) {
		s.body.(map[string]any)["document"].(map[string]any)["environment"] = "production"
	})
	r.send("listChanges", 200)
	r.send("approveChange", 403, as(r.people["ada"].token(nil)))
	r.send("approveChange", 409, member("sha256", strings.Repeat("0", 64)))
	r.send("approveChange", 200)
	r.send("getChange", 200)
	r.send("approveChange", 409)
	r.send("rejectChange", 409)
	r.propose()
	r.send("rejectChange", 200)
	for _, id := range []string{"getChange", "approveChange", "rejectChange"} {
		r.send(id, 404, named("id", uuid.NewString()))
	}
}

// propose leaves an open change.
func (r *rehearsal) propose() {
	r.t.Helper()
	var made struct{ ID, SHA256 string }
	if err := json.Unmarshal(r.send("proposeChange", 201).body, &made); err != nil {
		r.t.Fatal(err)
	}
	r.keep["change"], r.keep["digest"] = made.ID, made.SHA256
}
