package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/mintmark/mintmark/hsm"
)

// reloading is a service whose configuration changes under it, and three callers: app has
// merchant JWTs signed, shop makes proximity tokens, guest is not known at first.
type reloading struct {
	*server
	site             *callersSite
	app, shop, guest *party
	asked            int // requests so far
}

// served is what the service does for its callers, by status.
type served struct{ mint, mintForShop, terminal1, terminal2, guest int }

func (r *reloading) serves() served {
	post := func(path, token string, body any) int {
		r.asked++
		return r.send(path, token, body).status
	}
	return served{
		mint:        post("/v1/merchant-tokens", r.app.token(nil), order),
		mintForShop: post("/v1/merchant-tokens", r.app.token(nil), order.with(request{"mbn": "Shop"})),
		terminal1:   post("/apple/proximity-token", r.shop.token(nil), nil),
		terminal2:   post("/apple/proximity-token", r.shop.token(claims{"x-tid": "terminal-2"}), nil),
		guest:       post("/apple/proximity-token", r.guest.token(nil), nil),
	}
}

// expect compares what is served, and how many reloads are on record.
func (r *reloading) expect(when string, want served, reloads int) {
	r.t.Helper()
	if got := r.serves(); got != want {
		r.t.Errorf("%s: %+v, want %+v", when, got, want)
	}
	if n := r.reloads(); n != reloads {
		r.t.Errorf("%s: %d reloads are on record instead of %d", when, n, reloads)
	}
}

// reloadEntry is what an entry of a reload holds.
const reloadEntry = `"event":"reload"`

func (r *reloading) reloads() int { return r.entries("lifecycle", reloadEntry) }

// makesProximity is a client that makes proximity tokens.
const makesProximity = "    rights: [createAppleProximityToken]\n    acquirer: acquirer"

// On SIGHUP the configuration is read again: clients and their rights, log level, acquirers
// and terminals hold at once, and that is on record; a broken file changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	s := newCallersSite(t, hsm.MerchantJWT, hsm.ProximityToken)
	r := &reloading{site: s, app: s.party("app"), shop: s.party("shop"), guest: s.party("guest")}
	s.configure(merchantRole(clientOf("app", anything+"}") + clientOf("shop", makesProximity)))
	r.server = s.serve()
	first := served{mint: 200, mintForShop: 403, terminal1: 200, terminal2: 500, guest: 401}
	r.expect("at the start", first, 0)

	second := merchantRole(clientOf("app", "    rights: []") + clientOf("shop", makesProximity) + clientOf("guest", makesProximity))
	second = strings.Replace(second, merchantSection("terminal-1"), merchantSection("terminal-2"), 1)
	r.testBrokenFiles(second)
	r.expect("after broken files", first, 0)

	s.configure(second)
	r.hangup("configuration reloaded")
	r.expect("after the first reload", served{mint: 403, mintForShop: 403, terminal1: 500, terminal2: 200, guest: 500}, 1)

	third := merchantRole(clientOf("app", strings.Replace(anything, "audiences", "businessNames: [Shop], audiences", 1)+"}") + clientOf("shop", "    rights: []"))
	r.testLevels(third, served{mint: 200, mintForShop: 200, terminal1: 403, terminal2: 403, guest: 401})
	r.testNeedsRestart(third)
}

// testBrokenFiles makes a good configuration bad in many ways.
func (r *reloading) testBrokenFiles(good string) {
	for what, broken := range map[string]string{
		"no YAML":               "clients: [",
		"an unknown member":     good + "colour: red\n",
		"a key that is missing": strings.Replace(good, "guest.pem", "none.pem", 1),
		"an unknown right":      strings.Replace(good, "[createAppleProximityToken]", "[createEverything]", 1),
		"an unknown acquirer":   strings.Replace(good, "acquirers: [{name: acquirer,", "acquirers: [{name: another,", 1),
		"a wrong template":      strings.Replace(good, "{issuer: mint}", "{issuer: mint, claims: {iat: now}}", 1),
	} {
		if broken == good {
			r.t.Fatalf("%s: nothing is broken", what)
		}
		r.site.configure(broken)
		r.hangup("level=ERROR", "configuration not reloaded")
	}
}

// testLevels reloads with another level of the log and back. The level error hides the line
// that tells of it, too; the record is there.
func (r *reloading) testLevels(configuration string, want served) {
	reloads := r.reloads()
	r.logs(r.asked)
	r.site.configure(configuration + "log: {level: error}\n")
	if err := r.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		r.t.Fatal(err)
	}
	eventually(r.t, patience, func() error {
		n, err := r.counted(entriesOf, "lifecycle", reloadEntry)
		if err == nil && n != reloads+1 {
			err = fmt.Errorf("%d reloads are on record", n)
		}
		return err
	})
	before := r.asked
	r.expect("with the level error", want, reloads+1)

	// What the line of the next reload follows is in the log before it.
	r.site.configure(configuration + "log: {level: debug}\n")
	r.hangup("configuration reloaded")
	if n := r.logged("msg=request", "method=POST"); n != before {
		r.t.Errorf("with the level error %d requests are logged", n-before)
	}
	hidden := r.asked - before
	r.expect("with the level debug", want, reloads+2)
	r.logs(r.asked - hidden)
}

// logs waits until so many requests stand in the log. A server writes them there before it
// answers; its log comes here on another way.
func (r *reloading) logs(requests int) {
	r.t.Helper()
	eventually(r.t, patience, func() error {
		if n := r.logged("msg=request", "method=POST"); n != requests {
			return fmt.Errorf("%d requests are logged instead of %d", n, requests)
		}
		return nil
	})
}

// testNeedsRestart: what is not reloaded is told, and does not hold.
func (r *reloading) testNeedsRestart(configuration string) {
	for what, text := range map[string]string{
		"a time limit": strings.Replace(configuration, `"127.0.0.1:0"`, `"127.0.0.1:0", requestTimeout: 20s`, 1),
		"roles":        strings.Replace(configuration, "roles: [merchant]", "roles: [issuer]", 1),
	} {
		r.site.configure(text)
		r.hangup("level=WARN", "the configuration also has changes that need a restart")
		if a := r.send("/v1/merchant-tokens", r.app.token(nil), order); a.status != 200 {
			r.t.Errorf("with another value for %s: answered %d: %s", what, a.status, a.body)
		}
	}
	r.site.must("keys", "generate", "--name", "next", "--purpose", "merchant-jwt", "--state", "next", "--write")
	r.hangup("keyring taken up")
	r.hangup("configuration reloaded")
	if n := r.count(`SELECT COUNT(DISTINCT json_extract(body, '$.keyringSha256')) FROM audit_entries WHERE kind = 'lifecycle'`); n != 2 {
		r.t.Errorf("%d keyrings are on record as in use", n)
	}
	if n := len(r.jwks().Keys); n != 3 {
		r.t.Errorf("%d keys are published", n)
	}
}
