package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/integration/actors"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/passkit/passtest"
)

// Two replicas are one service: what may be done once is done once whichever is asked, one
// goes on for the other, and the logs of both together are whole. The steps share a rig, in
// this order.
func TestTwoReplicasAreOneService(t *testing.T) {
	r := newRig(t, options{postgres: []string{"fsync=off"}, times: patient})
	for _, step := range []struct {
		name string
		do   func(t *testing.T, r *rig)
	}{
		{"a nonce sent to both at once is used once", nonceIsUsedOnce},
		{"an encrypted card sent to both at once is taken once", encryptedCardIsTakenOnce},
		{"a quota is one quota", quotaIsOne},
		{"a passcode has its attempts once", attemptsAreCountedOnce},
		{"a change proposed to one is approved at the other and holds at both", changeIsOne},
		{"a second process on a replica's log ends", secondProcessEnds},
		{"both are restarted under load and no request fails", rollingRestart},
		{"the other takes up what a killed one had", otherTakesUp},
		{"while the database is away both say so and then go on", databaseGoesAndComes},
		{"the logs of both are whole", logsAreWhole},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			r.t = t
			defer func() { r.t = r.whole }()
			step.do(t, r)
		}) {
			return
		}
	}
}

// together makes n calls at once, in turn at each replica, and counts the answers' statuses.
func (r *rig) together(n int, call func(at string) actors.Call) (statuses map[int]int, all []actors.Answer) {
	r.t.Helper()
	statuses = map[int]int{}
	var mu sync.Mutex
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			a, err := call(r.replicas()[i%2].api).By(client)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.t.Error(err)
				return
			}
			statuses[a.Status]++
			all = append(all, a)
		})
	}
	calls.Wait()
	return statuses, all
}

// wantStatuses compares what together counted.
func wantStatuses(t *testing.T, got, want map[int]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("answered %v, want %v", got, want)
	}
}

func nonceIsUsedOnce(t *testing.T, r *rig) {
	for range 10 {
		request := r.sealing()
		got, _ := r.together(2, func(at string) actors.Call { return r.seal(at, request) })
		wantStatuses(t, got, map[int]int{200: 1, 409: 1})
	}
	request := r.sealing()
	got, _ := r.together(24, func(at string) actors.Call { return r.seal(at, request) })
	wantStatuses(t, got, map[int]int{200: 1, 409: 23})
}

func encryptedCardIsTakenOnce(t *testing.T, r *rig) {
	message := r.encrypted()
	got, _ := r.together(6, func(at string) actors.Call { return r.storing(at, message) })
	wantStatuses(t, got, map[int]int{200: 1, 409: 5})
}

func quotaIsOne(t *testing.T, r *rig) {
	bearer := r.limited.Token(nil)
	got, _ := r.together(2*quota, func(at string) actors.Call { return r.mint(at, bearer) })
	wantStatuses(t, got, map[int]int{200: quota, 429: quota})
}

func attemptsAreCountedOnce(t *testing.T, r *rig) {
	const attempts = 3
	passcode := r.sendPasscode("sms")
	if n := r.network.Acted()["sms"]; n != 1 {
		t.Errorf("the network was told %d times", n)
	}
	wrong := strings.Map(func(c rune) rune { return '0' + (c-'0'+1)%10 }, r.network.Code("sms"))
	_, all := r.together(10, func(at string) actors.Call {
		return actors.Call{Method: http.MethodPost, URL: at + "/v1/one-time-passcodes/" + passcode + "/verifications", Token: r.bearer(), Body: map[string]string{"passcode": wrong}}
	})
	left := map[int]int{}
	for _, a := range all {
		var got struct {
			Verified     bool
			AttemptsLeft int
		}
		if a.Status != 200 {
			continue
		}
		r.into(a, 200, &got)
		left[got.AttemptsLeft]++
		if got.Verified {
			t.Error("a wrong passcode is verified")
		}
	}
	if want := map[int]int{2: 1, 1: 1, 0: 1}; len(left) != attempts || !maps.Equal(left, want) {
		t.Errorf("ten guesses at once left %v attempts, want %v", left, want)
	}
}

// sendPasscode has a passcode sent by the first replica, waits until the network has it, and
// gives its id.
func (r *rig) sendPasscode(channel string) string {
	r.t.Helper()
	var sent struct{ PasscodeID string }
	r.into(r.call(http.MethodPost, r.a.api+"/v1/one-time-passcodes", r.bearer(), map[string]string{"externalCardId": card, "channelId": channel}), 200, &sent)
	actors.Eventually(r.t, soon, func() error {
		if r.network.Code(channel) == "" {
			return errors.New("the passcode has not arrived")
		}
		return nil
	})
	return sent.PasscodeID
}

func changeIsOne(t *testing.T, r *rig) {
	change := func(percentage int) {
		t.Helper()
		document := map[string]any{"tenant": tenant, "environment": "test", "rules": []any{map[string]any{"percentage": percentage}}}
		var made struct{ ID, SHA256, State string }
		r.into(r.call(http.MethodPost, r.a.admin+"/v1/changes", r.ada.Token(nil), map[string]any{"kind": "enablement", "document": document}), 201, &made)
		bearer := r.grace.Token(nil)
		// At both at once it is made once.
		got := map[int]int{}
		var mu sync.Mutex
		var calls sync.WaitGroup
		for _, p := range r.replicas() {
			calls.Go(func() {
				a, err := actors.Call{Method: http.MethodPost, URL: p.admin + "/v1/changes/" + made.ID + "/approve", Token: bearer, Body: map[string]string{"sha256": made.SHA256}}.By(client)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got[a.Status]++
			})
		}
		calls.Wait()
		wantStatuses(t, got, map[int]int{200: 1, 409: 1})
	}
	for percentage, status := range map[int]int{0: 403, 100: 200} {
		change(percentage)
		got, _ := r.together(2, func(at string) actors.Call { return r.seal(at, r.sealing()) })
		wantStatuses(t, got, map[int]int{status: 2})
	}
	change(100)
}

// secondProcessEnds has another process started with a replica's name: it must not write what
// the replica writes, which goes on.
func secondProcessEnds(t *testing.T, r *rig) {
	second := actors.Start(t, r.a.command("MINTMARK_DATA_DIR="+t.TempDir(), "MINTMARK_API_LISTEN="+actors.FreeAddress(t), "MINTMARK_ADMIN_LISTEN="+actors.FreeAddress(t)))
	select {
	case <-second.Exited:
	case <-time.After(soon):
		t.Fatal("it does not end")
	}
	var status *exec.ExitError
	if !errors.As(second.Err(), &status) || status.ExitCode() != 5 || !strings.Contains(second.Stderr.String(), "log a: another process writes to it") {
		t.Errorf("it ended with %v\n%s", second.Err(), second.Stderr)
	}
	got, _ := r.together(2, func(at string) actors.Call { return r.mint(at, r.bearer()) })
	wantStatuses(t, got, map[int]int{200: 2})
}

func rollingRestart(t *testing.T, r *rig) {
	l := newLoad(6, r.mix(r.balancer))
	for _, p := range r.replicas() {
		p.Stop()
		p.again()
		r.awaitIn(2)
	}
	all := l.end()
	if bad := failures(all); len(bad) != 0 {
		t.Errorf("%d of %d requests failed:\n%s", len(bad), len(all), strings.Join(bad[:min(len(bad), 10)], "\n"))
	}
	t.Logf("%d requests while both were restarted, longest gap %v", len(all), longestGap(all))
}

// setUpPass makes a pass with a device, and gives the path of the pass and the device's push
// token.
func (r *rig) setUpPass(device int) (path, pushToken string) {
	r.t.Helper()
	api := r.a.api + "/api/" + tenant
	icon, err := passtest.PNG(38, 38)
	r.check(err)
	var asset struct{ SHA256 string }
	r.into(r.call(http.MethodPut, api+"/assets", r.bearer(), icon), 200, &asset)
	r.into(r.call(http.MethodPut, api+"/pass-types/"+passType, r.bearer(), map[string]any{
		"files": map[string]string{"icon.png": asset.SHA256}, "template": map[string]any{"organizationName": "Shop", "description": "Card"}}), 200, nil)
	path = "/api/" + tenant + "/passes/" + passType + "/1"
	var made struct {
		Pass struct{ AuthenticationToken string }
	}
	r.into(r.call(http.MethodPut, r.a.api+path, r.bearer(), passOf(0)), 201, &made)
	pushToken = actors.DeviceToken(device)
	// The device registers at the other replica.
	a, err := actors.Call{
		Method: http.MethodPost, Body: map[string]string{"pushToken": pushToken},
		URL:    fmt.Sprintf("%s/api/%s/passes/apple/v1/devices/device-%d/registrations/%s/1", r.b.api, tenant, device, passType),
		Header: http.Header{"Authorization": {"ApplePass " + made.Pass.AuthenticationToken}},
	}.By(client)
	r.check(err)
	r.into(a, 201, nil)
	return path, pushToken
}

func passOf(value int) any {
	return map[string]any{"pass": map[string]any{"generic": map[string]any{"backFields": []any{map[string]any{"key": "n", "value": value}}}}}
}

// Of a replica that is killed -9 the other takes over a nonce that was claimed, and pushes and
// notices that were leased, when the leases have run out: the test moves their end to now.
func otherTakesUp(t *testing.T, r *rig) {
	path, pushToken := r.setUpPass(1)
	r.b.Stop() // so that what is leased is the first one's
	r.network.Silence(true)
	r.sendPasscode("mail")
	request := r.sealing()
	stuck := r.a.fault.Hang("C_DeriveKey", faultmodule.Forever)
	lost, asked := make(chan error, 1), time.Now()
	go func() {
		_, err := r.seal(r.a.api, request).By(client)
		lost <- err
	}()
	stuck.Await(1) // the claim is committed, and the seal under way
	// The push comes last: of all that the first one waits for it gives this up soonest, after
	// ten seconds, and is then without the lease until it tries again.
	r.pushes.Tell(pushToken, actors.PushAnswer{Never: true})
	r.into(r.call(http.MethodPut, r.a.api+path, r.bearer(), passOf(1)), 200, nil)
	actors.Eventually(t, soon, func() error {
		n, err := r.counted(leased["pushes"], time.Now().Add(patient.pushLease/2).UnixMilli())
		if err == nil && n != 1 {
			err = fmt.Errorf("%d pushes are under way", n)
		}
		return err
	})
	r.a.Kill()
	stuck.Clear()
	if err := <-lost; err == nil {
		t.Error("a killed replica answered")
	}
	r.pushes.Forget(pushToken)
	r.network.Silence(false)
	r.b.again()
	r.leasesHold(request, asked)
	for _, end := range []string{`UPDATE apple_nonces SET lease_until = 0 WHERE state = 'claimed'`, `UPDATE network_notices SET due_at = 0`, `UPDATE pass_pushes SET due_at = 0`} {
		_, err := r.database.Exec(end)
		r.check(err)
	}
	actors.Eventually(t, soon, func() error {
		a, err := r.seal(r.b.api, request).By(client)
		if err == nil && a.Status != 200 {
			err = fmt.Errorf("the other answers %d: %s", a.Status, a.Body)
		}
		return err
	})
	actors.Eventually(t, soon, func() error {
		n, err := r.counted(`SELECT COUNT(*) FROM network_notices`)
		if err == nil && n != 0 {
			err = fmt.Errorf("%d notices were not told", n)
		}
		return err
	})
	if n := r.network.Acted()["mail"]; n != 1 {
		t.Errorf("the network acted %d times", n)
	}
	actors.Eventually(t, soon, func() error {
		if r.pushes.Took(pushToken) == 0 {
			return errors.New("the device was not told")
		}
		return nil
	})
	r.pushes.Check()
	r.a.again()
}

// leased count what outboxes hold for whoever has leased it, until a time and longer.
var leased = map[string]string{
	"notices": `SELECT COUNT(*) FROM network_notices WHERE fence = 1 AND due_at >= $1`,
	"pushes":  `SELECT COUNT(*) FROM pass_pushes WHERE due_at >= $1`,
}

// leasesHold: what a killed replica had is left alone while its leases run, which for the nonce
// of a request is as long as the configuration says from when it was asked for.
func (r *rig) leasesHold(request map[string]any, asked time.Time) {
	r.t.Helper()
	if a, err := r.seal(r.b.api, request).By(client); err != nil || a.Status != 409 {
		r.t.Errorf("while the lease runs the other answers %d (%v): %s", a.Status, err, a.Body)
	}
	if n := r.count(`SELECT COUNT(*) FROM apple_nonces WHERE state = 'claimed' AND lease_until >= $1`, asked.Add(patient.nonceLease).UnixMilli()); n != 1 {
		r.t.Errorf("%d nonces are claimed for %v, want 1", n, patient.nonceLease)
	}
	for what, query := range leased {
		if n := r.count(query, time.Now().UnixMilli()); n != 1 {
			r.t.Errorf("%d %s are leased as the killed replica left them, want 1", n, what)
		}
	}
}

// databaseGoesAndComes has the database stopped, as for its own restart, and started.
func databaseGoesAndComes(t *testing.T, r *rig) {
	r.postgres.Halt(true)
	for _, p := range r.replicas() {
		a := r.call(http.MethodPost, p.api+"/issuer/push-provisioning/signed-cards", r.bearer(), r.sealing())
		if a.Status != 503 || a.Header.Get("Retry-After") == "" {
			t.Errorf("%s answers %d with Retry-After %q: %s", p.name, a.Status, a.Header.Get("Retry-After"), a.Body)
		}
		if p.ready() {
			t.Errorf("%s says that it is ready", p.name)
		}
	}
	// The balancer has nobody left to ask, and says when to come again too.
	actors.Eventually(t, soon, func() error {
		a, err := r.mint(r.balancer, r.bearer()).By(client)
		if err == nil && (a.Status != 503 || a.Header.Get("Retry-After") == "" || strings.Contains(string(a.Body), "urn:mintmark")) {
			err = fmt.Errorf("the balancer answers %d with Retry-After %q: %s", a.Status, a.Header.Get("Retry-After"), a.Body)
		}
		return err
	})
	r.check(r.postgres.Resume())
	for _, p := range r.replicas() {
		actors.Eventually(t, soon, func() error {
			a, err := r.seal(p.api, r.sealing()).By(client)
			if err == nil && a.Status != 200 {
				err = fmt.Errorf("%s answers %d: %s", p.name, a.Status, a.Body)
			}
			return err
		})
	}
	r.awaitIn(2)
}

// awaitIn waits until so many replicas are in at the balancer, by whose log each answers.
func (r *rig) awaitIn(n int) {
	r.t.Helper()
	actors.Eventually(r.t, soon, func() error {
		seen := map[string]bool{}
		for range 16 {
			a, err := actors.Call{Method: http.MethodGet, URL: r.balancer + "/v1/audit/checkpoint"}.By(client)
			if err != nil {
				return err
			}
			origin, _, _ := strings.Cut(string(a.Body), "\n")
			if a.Status == http.StatusOK {
				seen[origin] = true
			}
		}
		if len(seen) != n {
			return fmt.Errorf("%d replicas answer: %v", len(seen), seen)
		}
		return nil
	})
}

// logsAreWhole stops both and has every log verified, and every sealed card looked for in
// them: each nonce that is used has one result.
func logsAreWhole(t *testing.T, r *rig) {
	r.stopBoth()
	t.Logf("audit verify: %s", r.verifyLogs())
	sealed := r.sealed()
	for claim, n := range sealed {
		if n != 1 {
			t.Errorf("for the claim %s a card was sealed %d times", claim, n)
		}
	}
	if used := r.count(`SELECT COUNT(*) FROM apple_nonces WHERE state = 'used'`); used != len(sealed) || used == 0 {
		t.Errorf("%d nonces are used, for %d a card was sealed", used, len(sealed))
	}
}

// stopBoth stops the replicas, at the same time.
func (r *rig) stopBoth() {
	var stopping sync.WaitGroup
	for _, p := range r.replicas() {
		stopping.Go(p.Stop)
	}
	stopping.Wait()
}

// sealed is how often a card was sealed for each nonce, by the claim of the intent, in the
// logs of all replicas.
func (r *rig) sealed() map[string]int {
	r.t.Helper()
	rows, err := r.database.Query(`SELECT i.body, o.body FROM audit_entries i JOIN audit_entries o ON o.ticket = i.ticket AND o.kind = 'result'
		WHERE i.kind = 'intent'`)
	r.check(err)
	defer func() { _ = rows.Close() }()
	all := map[string]int{}
	for rows.Next() {
		var begun, ended string
		r.check(rows.Scan(&begun, &ended))
		var intent struct{ Refs struct{ NonceClaim string } }
		var result struct{ Outcome string }
		r.check(json.Unmarshal([]byte(begun), &intent))
		r.check(json.Unmarshal([]byte(ended), &result))
		if claim := intent.Refs.NonceClaim; claim != "" && result.Outcome == "done" {
			all[claim]++
		}
	}
	r.check(rows.Err())
	return all
}
