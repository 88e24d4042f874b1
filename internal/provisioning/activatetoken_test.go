package provisioning_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
)

// connector plays the network: it answers as it is told, and honours idempotency keys.
type connector struct {
	next   func() (provisioning.ActivationAnswer, error)
	before func(reference string) // something that happens while it is asked
	kept   map[string]provisioning.ActivationAnswer
	keys   []string // of calls that it had not answered before
	asked  int
}

func (c *connector) Activate(_ context.Context, _ provisioning.Caller, a provisioning.TokenActivation) (provisioning.ActivationAnswer, error) {
	c.asked++
	if c.before != nil {
		c.before(a.TokenUniqueReference)
	}
	if answer, ok := c.kept[a.IdempotencyKey]; ok {
		return answer, nil
	}
	answer, err := c.next()
	if err == nil {
		c.kept[a.IdempotencyKey] = answer
		c.keys = append(c.keys, a.IdempotencyKey)
	}
	return answer, err
}

func (c *connector) answers(o provisioning.ActivationOutcome, comment string) {
	c.next = func() (provisioning.ActivationAnswer, error) {
		return provisioning.ActivationAnswer{Outcome: o, Comment: comment}, nil
	}
}

func (c *connector) fails(err error) {
	c.next = func() (provisioning.ActivationAnswer, error) { return provisioning.ActivationAnswer{}, err }
}

// newNetworked is a world with a network that approves.
func newNetworked(t testing.TB) (*world, *connector) {
	c := &connector{kept: map[string]provisioning.ActivationAnswer{}}
	c.answers(provisioning.ActivationApproved, "")
	return newWorld(t, func(cfg *provisioning.Config) { cfg.Connector = c }), c
}

// activated gives the answer to an activation as one line.
func (w *world) activated(who provisioning.Caller, reference string) string {
	w.Helper()
	out, err := w.svc.ActivateToken(context.Background(), who, reference)
	if err != nil {
		w.Fatal(err)
	}
	return strings.Join(strings.Fields(strings.Join([]string{string(out.Response), out.Reference, out.Last4, out.Comment}, " ")), " ")
}

// notices counts what waits to be told to cardholders.
func (w *world) notices() int { return w.count("SELECT COUNT(*) FROM network_notices") }

// What comes of an activation, and whether the network is asked.
func TestActivationAnswersWhatTheStateAllows(t *testing.T) {
	w, network := newNetworked(t)
	const card = "demo-mastercard-1"
	n := 0
	for name, tc := range map[string]struct {
		status   provisioning.TokenStatus
		card     string
		decide   func()
		network  provisioning.ActivationOutcome
		comment  string
		want     string // without the reference
		asked    int
		notified int
	}{
		"permitted":      {provisioning.TokenInactive, card, func() { w.decide(card, path.Green) }, "APPROVED", "", "APPROVED 1488", 1, 1},
		"with a comment": {provisioning.TokenInactive, card, func() { w.decide(card, path.Green) }, "APPROVED", "welcome", "APPROVED 1488 welcome", 1, 1},
		"a step to do in the app": {provisioning.TokenInactive, card, func() {
			w.decide(card, path.Yellow, path.Requirement{Rule: "x", AnyOf: []path.Step{path.CallCentre, path.InAppVerification}})
		}, "APPROVED", "", "APPROVED 1488", 1, 1},
		"no decision":                          {provisioning.TokenInactive, "demo-mastercard-2", nil, "APPROVED", "", "DECLINED no-decision", 0, 0},
		"a decision of the past":               {provisioning.TokenInactive, card, func() { w.decide(card, path.Green); w.clock.Add(2 * time.Hour) }, "APPROVED", "", "DECLINED no-decision", 0, 0},
		"red":                                  {provisioning.TokenInactive, card, func() { w.decide(card, path.Green); w.decide(card, path.Red) }, "APPROVED", "", "DECLINED decision-red", 0, 0},
		"a step not done":                      {provisioning.TokenInactive, card, func() { w.decide(card, path.Orange, step) }, "APPROVED", "", "DECLINED decision-requires", 0, 0},
		"of no known card":                     {provisioning.TokenInactive, "", nil, "APPROVED", "", "DECLINED no-decision", 0, 0},
		"active already":                       {provisioning.TokenActive, card, func() { w.decide(card, path.Red) }, "FAILED", "", "APPROVED 1488", 0, 1},
		"active, of a card that is not stored": {provisioning.TokenActive, "card-9", nil, "FAILED", "", "APPROVED", 0, 1},
		"suspended":                            {provisioning.TokenSuspended, card, func() { w.decide(card, path.Green) }, "APPROVED", "", "DECLINED wallet-token-state", 0, 0},
		"deactivated":                          {provisioning.TokenDeactivated, card, func() { w.decide(card, path.Green) }, "APPROVED", "", "DECLINED wallet-token-state", 0, 0},
		"of the network's own":                 {"PENDING", card, func() { w.decide(card, path.Green) }, "APPROVED", "", "DECLINED wallet-token-state", 0, 0},
		"the network declines":                 {provisioning.TokenInactive, card, func() { w.decide(card, path.Green) }, "DECLINED", "", "DECLINED network-declined", 1, 0},
		"the network fails":                    {provisioning.TokenInactive, card, func() { w.decide(card, path.Green) }, "FAILED", "try later", "FAILED try later", 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			n++
			reference := "token-" + string(rune('a'+n))
			if tc.decide != nil {
				tc.decide()
			}
			before := w.notices()
			w.tell(token(reference, tc.card, tc.status))
			network.answers(tc.network, tc.comment)
			network.asked = 0
			want := strings.Replace(tc.want, " ", " "+reference+" ", 1)
			if !strings.Contains(tc.want, " ") {
				want += " " + reference
			}
			if got := w.activated(owner, reference); got != want || network.asked != tc.asked || w.notices()-before != tc.notified {
				t.Errorf("%s, want %s; asked %d times, %d notices", got, want, network.asked, w.notices()-before)
			}
		})
	}
	for name, tc := range map[string]struct {
		who       provisioning.Caller
		reference string
		want      string
	}{
		"unknown":           {owner, "unknown", "FAILED unknown unknown-wallet-token"},
		"somebody else's":   {another, "token-b", "FAILED token-b unknown-wallet-token"},
		"what none can be":  {owner, "a b", "FAILED unknown-wallet-token"},
		"a card number":     {owner, "5204245250001488", "FAILED unknown-wallet-token"},
		"too long, and odd": {owner, strings.Repeat("é", 200), "FAILED unknown-wallet-token"},
	} {
		network.asked = 0
		if got := w.activated(tc.who, tc.reference); got != tc.want || network.asked != 0 {
			t.Errorf("%s: %s, asked %d times", name, got, network.asked)
		}
	}
	var field *provisioning.FieldError
	if _, err := w.svc.ActivateToken(context.Background(), owner, ""); !errors.As(err, &field) {
		t.Errorf("without a reference: %v", err)
	}
}

// The same request again asks the network for the same until there is an answer, and for
// something new after one that was no approval. Once it is approved the network is asked no
// more, and the cardholder told once.
func TestActivationIsIdempotent(t *testing.T) {
	w, network := newNetworked(t)
	w.decide("demo-mastercard-1", path.Green)
	w.tell(token("phone", "demo-mastercard-1", provisioning.TokenInactive))
	var away interface{ RetryAfter() time.Duration }
	steps := []struct {
		network func()
		want    string // empty: an error with RetryAfter
	}{
		{func() { network.fails(errors.New("no answer")) }, "FAILED phone network-unavailable"},
		{func() { network.fails(errAway) }, ""},
		{func() { network.answers(provisioning.ActivationFailed, "") }, "FAILED phone network-failed"},
		{func() { network.answers(provisioning.ActivationDeclined, "no") }, "DECLINED phone no"},
		{func() { network.answers(provisioning.ActivationApproved, "") }, "APPROVED phone 1488"},
		{func() { network.fails(errors.New("must not be asked")) }, "APPROVED phone 1488"},
	}
	for i, st := range steps {
		st.network()
		if st.want == "" {
			if _, err := w.svc.ActivateToken(context.Background(), owner, "phone"); !errors.As(err, &away) {
				t.Errorf("step %d: %v", i, err)
			}
			continue
		}
		if got := w.activated(owner, "phone"); got != st.want {
			t.Errorf("step %d: %s, want %s", i, got, st.want)
		}
	}
	if network.asked != 5 || len(network.keys) != 3 || w.notices() != 1 {
		t.Errorf("asked %d times, answered %q, %d notices", network.asked, network.keys, w.notices())
	}
	if diff := cmp.Diff("phone ACTIVE", w.searched(owner, search("phone"))); diff != "" {
		t.Error(diff)
	}
	if found, err := w.store.FindTokens(context.Background(), owner.Tenant, []string{"phone"}); err != nil || found[0].Revision != 2 || found[0].Attempt != 2 {
		t.Errorf("%+v, %v", found, err)
	}
}

// What the network tells while it is asked, and a record that cannot be written, leave one
// state that both agree on, and one notice.
func TestActivationMeetsTheNetworksOwnMessage(t *testing.T) {
	w, network := newNetworked(t)
	w.decide("demo-mastercard-1", path.Green)
	tell := func(reference string, status provisioning.TokenStatus, process string) {
		tk := token(reference, "demo-mastercard-1", status)
		tk.Process = process
		w.tell(tk)
	}
	for name, tc := range map[string]struct {
		meanwhile provisioning.TokenStatus
		want      string
		now       string
		notices   int
	}{
		"active":              {provisioning.TokenActive, "APPROVED active 1488", "active ACTIVE", 1},
		"something beside it": {provisioning.TokenInactive, "APPROVED beside 1488", "beside ACTIVE", 1},
		"deactivated":         {provisioning.TokenDeactivated, "DECLINED deactivated wallet-token-state", "deactivated DEACTIVATED", 0},
	} {
		reference := strings.Fields(tc.now)[0]
		before := w.notices()
		tell(reference, provisioning.TokenInactive, "")
		network.before = func(r string) { tell(r, tc.meanwhile, "told meanwhile") }
		if got := w.activated(owner, reference); got != tc.want {
			t.Errorf("%s: %s", name, got)
		}
		network.before = nil
		if got := w.searched(owner, search(reference)); got != tc.now || w.notices()-before != tc.notices {
			t.Errorf("%s: now %s, %d notices", name, got, w.notices()-before)
		}
	}

	// The network has activated it, and nothing can be written: no answer; the next one is.
	tell("unwritten", provisioning.TokenInactive, "")
	mend := w.failEntries(audit.KindResult)
	_, err := w.svc.ActivateToken(context.Background(), owner, "unwritten")
	requireRetry(t, err)
	mend()
	network.fails(errors.New("must be the call that it has answered"))
	if got := w.activated(owner, "unwritten"); got != "APPROVED unwritten 1488" {
		t.Errorf("then: %s", got)
	}
}
