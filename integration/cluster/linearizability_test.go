//go:build linearizability

package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/mintmark/mintmark/integration/actors"
	"github.com/mintmark/mintmark/internal/provisioning"
)

func init() { raceDetector = false } // it makes the replicas three times slower

// How nonces are used: so many of them are in play at once, and of each several attempts are
// made, at both replicas, most of them at once and one late, when a lease may have run out.
const (
	inPlay   = 96
	attempts = 4
	patience = 3 * time.Second // of a caller: shorter than the replicas' own
)

// seconds is how long it goes on.
func seconds(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("LIN_SECONDS")
	if text == "" {
		return 10 * time.Minute
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * time.Second
}

// run is one run with its history.
type run struct {
	*rig
	began  time.Time
	caller *http.Client

	mu      sync.Mutex // guards all below
	history []porcupine.Operation
	claims  map[string]string // of the nonces, as the database names them
	counts  map[outcome]int
	faults  map[string]int
	clients int
}

// Nonces are claimed through two replicas while these are killed and paused and so is the
// database: what the callers saw is what one register a nonce could have shown them, and the
// log has each card once.
func TestNonceClaimsAreLinearizable(t *testing.T) {
	r := &run{rig: newRig(t, options{postgres: []string{"fsync=off"}}), began: time.Now(),
		caller: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
		claims: map[string]string{}, counts: map[outcome]int{}, faults: map[string]int{}}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range inPlay {
		running.Go(func() { r.useNonces(stop) })
	}
	for end := time.Now().Add(seconds(t)); time.Now().Before(end); {
		r.harm()
	}
	close(stop)
	running.Wait()
	r.heal()
	r.look()
	t.Logf("%d nonces, %d attempts: %v; %v", len(r.claims), len(r.history)-len(r.claims), r.counts, r.faults)
	for _, o := range []outcome{granted, refused, unknown} {
		if r.counts[o] == 0 {
			t.Errorf("no attempt was %v: nothing is shown", o)
		}
	}
	if got := porcupine.CheckOperationsTimeout(nonces, r.history, 10*time.Minute); got != porcupine.Ok {
		t.Errorf("the history is judged %s: %s", got, r.culprits())
	}
	for claim, n := range r.sealed() {
		if n != 1 {
			t.Errorf("for the claim %s a card was sealed %d times", claim, n)
		}
	}
	r.stopBoth()
	t.Logf("audit verify: %s", r.verifyLogs())
	r.claimTakenAwayIsFound()
}

// useNonces makes attempts at one nonce after the other.
func (r *run) useNonces(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		request := r.sealing()
		nonce := request["nonce"].(string) + request["nonceSignature"].(string)
		r.mu.Lock()
		r.claims[nonce] = r.claimOf(request)
		r.mu.Unlock()
		var all sync.WaitGroup
		for i := range attempts {
			wait := rand.N(10 * time.Millisecond)
			if i == attempts-1 {
				wait = rand.N(3 * nonceLease / 2)
			}
			at := r.replicas()[rand.IntN(2)]
			all.Go(func() {
				<-time.After(wait)
				r.attempt(at, nonce, request)
			})
		}
		all.Wait()
	}
}

// attempt makes one and keeps what came of it. One that nobody took the connection of was
// never made.
func (r *run) attempt(at *replica, nonce string, request map[string]any) {
	began := time.Since(r.began)
	a, err := r.seal(at.api, request).By(r.caller)
	ended := time.Since(r.began)
	o := unknown
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return
	case err == nil && a.Status == http.StatusOK:
		o = granted
	case err == nil && a.Status == http.StatusConflict:
		o = refused
	case err == nil && a.Status != http.StatusServiceUnavailable:
		r.t.Errorf("answered %d: %s", a.Status, a.Body)
	}
	r.keep(attempt{nonce: nonce}, o, began, ended)
}

func (r *run) keep(a attempt, o outcome, began, ended time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients++ // each is a client of its own: it waits for no other
	r.history = append(r.history, operation(r.clients, a, o, began, ended))
	r.counts[o]++
}

// claimOf is what the database calls a nonce.
func (r *run) claimOf(request map[string]any) string {
	nonce, err1 := hex.DecodeString(request["nonce"].(string))
	signature, err2 := hex.DecodeString(request["nonceSignature"].(string))
	if err := errors.Join(err1, err2); err != nil {
		r.t.Error(err)
	}
	id := provisioning.ClaimID(tenant, sha256.Sum256(r.apple.Leaf.RawSubjectPublicKeyInfo), nonce, signature)
	return hex.EncodeToString(id[:])
}

// harm does one harmful thing, has it last, takes it back, and leaves some peace.
func (r *run) harm() {
	p := r.replicas()[rand.IntN(2)]
	lasts := 500*time.Millisecond + rand.N(nonceLease+time.Second) // a paused replica may lose its leases
	var what string
	switch rand.IntN(4) {
	case 0:
		what = "replica killed"
		p.Kill()
		p.again()
	case 1:
		what = "replica paused"
		p.Signal(syscall.SIGSTOP)
		<-time.After(lasts)
		p.Signal(syscall.SIGCONT)
	case 2:
		what = "database paused"
		r.check(r.postgres.Pause())
		<-time.After(lasts / 2)
		r.check(r.postgres.Continue())
	default:
		what = "database killed"
		r.postgres.Halt(false)
		<-time.After(lasts / 4)
		r.check(r.postgres.Resume())
	}
	r.faults[what]++
	<-time.After(time.Second + rand.N(2*time.Second))
	for _, p := range r.replicas() {
		select {
		case <-p.Exited: // by its own decision, which a supervisor answers so
			r.faults["replica ended by itself"]++
			p.again()
		default:
		}
	}
}

// heal waits until both replicas serve, and nothing of what was begun can be under way.
func (r *run) heal() {
	for _, p := range r.replicas() {
		actors.Eventually(r.t, time.Minute, func() error {
			a, err := r.seal(p.api, r.sealing()).By(client)
			if err == nil && a.Status != http.StatusOK {
				err = fmt.Errorf("%s answers %d: %s", p.name, a.Status, a.Body)
			}
			return err
		})
	}
	<-time.After(2 * requestTimeout)
}

// look adds to the history what the database holds of each nonce.
func (r *run) look() {
	rows, err := r.database.Query(`SELECT encode(claim, 'hex') FROM apple_nonces WHERE state = 'used'`)
	r.check(err)
	defer func() { _ = rows.Close() }()
	inUse := map[string]bool{}
	for rows.Next() {
		var claim string
		r.check(rows.Scan(&claim))
		inUse[claim] = true
	}
	r.check(rows.Err())
	for nonce, claim := range r.claims {
		o := isNotUsed
		if inUse[claim] {
			o = isUsed
		}
		now := time.Since(r.began)
		r.keep(attempt{nonce: nonce, look: true}, o, now, now+1)
	}
}

// culprits are the histories of nonces that cannot be.
func (r *run) culprits() string {
	var b strings.Builder
	for _, ops := range nonces.Partition(r.history) {
		if porcupine.CheckOperations(nonces, ops) {
			continue
		}
		slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
		for _, op := range ops {
			fmt.Fprintf(&b, "\n%v to %v: %s", time.Duration(op.Call), time.Duration(op.Return), nonces.DescribeOperation(op.Input, op.Output))
		}
	}
	return b.String()
}

// claimTakenAwayIsFound has a replica forget that a nonce was used, by removing its row behind
// the service's back: the checker must find that it was granted twice.
func (r *run) claimTakenAwayIsFound() {
	for _, p := range r.replicas() {
		p.again()
	}
	request := r.sealing()
	r.history = nil
	r.attempt(r.a, "forgotten", request)
	if _, err := r.database.Exec(`DELETE FROM apple_nonces WHERE encode(claim, 'hex') = $1`, r.claimOf(request)); err != nil {
		r.t.Fatal(err)
	}
	r.attempt(r.b, "forgotten", request)
	if len(r.history) != 2 || porcupine.CheckOperations(nonces, r.history) {
		r.t.Errorf("a nonce whose claim was taken away is not found: %v", r.history)
	}
}
