package provisioning_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// send has a passcode sent to the owner, and gives it as its receiver would read it.
func (a *approval) send(req provisioning.PasscodeRequest) (provisioning.Sent, string) {
	a.Helper()
	sent, err := a.svc.SendPasscode(context.Background(), owner, req)
	if err != nil {
		a.Fatal(err)
	}
	var body struct{ Passcode string }
	if err := json.Unmarshal(a.deliver(), &body); err != nil {
		a.Fatal(err)
	}
	return sent, body.Passcode
}

// deliver takes the one notice that is due and opens it.
func (a *approval) deliver() []byte {
	a.Helper()
	all, err := a.store.LeaseNotices(context.Background(), a.clock.Now(), a.clock.Now().Add(time.Minute), 9)
	if err != nil || len(all) != 1 {
		a.Fatalf("%d notices are due, %v", len(all), err)
	}
	n := all[0]
	t, err := a.rec.Open(record.Intent{Operation: record.CallNetwork, Tenant: n.Tenant})
	if err != nil {
		a.Fatal(err)
	}
	body, err := signer.New(a.token.Token).OpenNotice(context.Background(), t, n.Tenant, n.ID, n.Body)
	if err != nil {
		a.Fatal(err)
	}
	if err := a.store.EndNotices(context.Background(), []provisioning.NoticeEnd{{ID: n.ID, Fence: n.Fence}}); err != nil {
		a.Fatal(err)
	}
	return body
}

func (a *approval) try(id, code string) (provisioning.Verification, error) {
	return a.svc.VerifyPasscode(context.Background(), owner, id, secret.NewText(code))
}

// wrong is a passcode that is not this one.
func wrong(code string) string { return code[:len(code)-1] + string('0'+(code[len(code)-1]-'0'+1)%10) }

func (a *approval) toTenured(card string) provisioning.PasscodeRequest {
	return provisioning.PasscodeRequest{ExternalCardID: card, DeviceID: "phone", ChannelID: "sms", Statement: a.well(nil)}
}

func passcodeForOrange(t *testing.T, a *approval) {
	card := a.newCard()
	ask := func(passcode string) provisioning.Decided {
		return a.decide(check(card, path.Orange, code0G, stating(a.well(nil)), citing(passcode)))
	}
	sent, code := a.send(a.toTenured(card))
	if d := ask(sent.ID); len(d.Required) != 1 || !slices.Contains(d.Reasons, provisioning.ReasonPasscode) || a.activates(card, "phone") == "" {
		t.Errorf("before it was verified: %+v", d)
	}
	if v, err := a.try(sent.ID, code); err != nil || !v.Verified {
		t.Fatalf("verified: %+v, %v", v, err)
	}
	if d := ask(sent.ID); d.Path != path.Orange || len(d.Required) != 0 || a.activates(card, "phone") != "" {
		t.Errorf("after it was: %+v", d)
	}
	a.clock.Add(10 * time.Minute)
	if d := ask(sent.ID); len(d.Required) != 1 || a.activates(card, "phone") == "" {
		t.Errorf("when it is dated: %+v", d)
	}
	// To a channel that nothing proves to be tenured.
	sent, code = a.send(provisioning.PasscodeRequest{ExternalCardID: card, ChannelID: "sms"})
	if v, err := a.try(sent.ID, code); err != nil || !v.Verified {
		t.Fatalf("verified: %+v, %v", v, err)
	}
	if d := ask(sent.ID); len(d.Required) != 1 {
		t.Errorf("by a channel that is not tenured: %+v", d)
	}
}

func passcodeCounts(t *testing.T, a *approval) {
	card, another := a.newCard(), a.newCard()
	sent, code := a.send(a.toTenured(card))
	if _, err := a.try(sent.ID, code); err != nil {
		t.Fatal(err)
	}
	for name, req := range map[string]provisioning.DecisionRequest{
		"no id":          check(card, path.Orange, stating(a.well(nil)), citing("a\x00b")),
		"another card":   check(another, path.Orange, stating(a.well(nil)), citing(sent.ID)),
		"another device": check(card, path.Orange, citing(sent.ID), func(r *provisioning.DecisionRequest) { r.DeviceID = "watch" }),
	} {
		if d := a.decide(req); len(d.Required) == 0 || !slices.Contains(d.Reasons, provisioning.ReasonPasscode) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if _, err := a.svc.SendPasscode(context.Background(), owner, provisioning.PasscodeRequest{ExternalCardID: card, ChannelID: "email", Statement: a.well(nil)}); !errors.Is(err, provisioning.ErrStatement) {
		t.Errorf("a statement about another channel: %v", err)
	}
}

func guesses(t *testing.T, a *approval) {
	sent, code := a.send(a.toTenured(a.newCard()))
	stranger := owner
	stranger.Subject = "user-2"
	if _, err := a.svc.VerifyPasscode(context.Background(), stranger, sent.ID, secret.NewText(code)); !errors.Is(err, provisioning.ErrUnknownPasscode) {
		t.Errorf("another owner: %v", err)
	}
	for left := 2; left >= 0; left-- {
		if v, err := a.try(sent.ID, wrong(code)); err != nil || v != (provisioning.Verification{AttemptsLeft: left}) {
			t.Errorf("wrong: %+v, %v", v, err)
		}
	}
	if _, err := a.try(sent.ID, code); !errors.Is(err, provisioning.ErrPasscodeSpent) {
		t.Errorf("after all attempts: %v", err)
	}
	for _, id := range []string{"", "x", "00000000-0000-0000-0000-000000000000"} {
		if _, err := a.try(id, code); !errors.Is(err, provisioning.ErrUnknownPasscode) {
			t.Errorf("%q: %v", id, err)
		}
	}
	var field *provisioning.FieldError
	if _, err := a.try(sent.ID, "12345x"); !errors.As(err, &field) {
		t.Errorf("no digits: %v", err)
	}
}

// What counts is how often the token was asked to compare. internal/store has the same over two
// connections, as two processes would be.
func guessesAtOnce(t *testing.T, a *approval) {
	sent, code := a.send(a.toTenured(a.newCard()))
	compared := a.token.CallsOf("hmac")
	var mu sync.Mutex // guards verified
	verified := 0
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			guess := wrong(code)
			if i%4 == 0 {
				guess = code
			}
			if v, err := a.try(sent.ID, guess); err == nil && v.Verified {
				mu.Lock()
				defer mu.Unlock()
				verified++
			}
		})
	}
	all.Wait()
	if n := a.token.CallsOf("hmac") - compared; n > 3 || n < 1 || verified > 1 {
		t.Errorf("compared %d times with 3 attempts, verified %d times", n, verified)
	}
}

func passcodeEnds(t *testing.T, a *approval) {
	card := a.newCard()
	first, code := a.send(a.toTenured(card))
	second, newer := a.send(a.toTenured(card))
	if _, err := a.try(first.ID, code); !errors.Is(err, provisioning.ErrPasscodeSpent) {
		t.Errorf("the one before: %v", err)
	}
	a.clock.Add(5 * time.Minute)
	if _, err := a.try(second.ID, newer); !errors.Is(err, provisioning.ErrPasscodeExpired) {
		t.Errorf("after its life: %v", err)
	}
	for range 3 {
		a.send(a.toTenured(card))
	}
	var tooMany *provisioning.TooManyPasscodesError
	if _, err := a.svc.SendPasscode(context.Background(), owner, a.toTenured(card)); !errors.As(err, &tooMany) || tooMany.After != 55*time.Minute {
		t.Errorf("the sixth in an hour: %v", err)
	}
}

func passcodeIsSealed(t *testing.T, a *approval) {
	var body struct{ Passcode, ChannelID, ExternalCardID, Sub, ExpiresAt string }
	var sent provisioning.Sent
	var before, all []byte
	for again := true; again; again = bytes.Contains(before, []byte(body.Passcode)) { // as six digits of some digest
		before = a.files(a.path + "*")
		var err error
		if sent, err = a.svc.SendPasscode(context.Background(), owner, a.toTenured(a.newCard())); err != nil {
			t.Fatal(err)
		}
		all = a.files(a.path + "*") // while it waits in the outbox
		if err := json.Unmarshal(a.deliver(), &body); err != nil {
			t.Fatal(err)
		}
	}
	if len(body.Passcode) != 6 || body.ChannelID != "sms" || body.Sub != owner.Subject || body.ExpiresAt != sent.Until.Format(time.RFC3339) {
		t.Errorf("its receiver reads %+v", body)
	}
	for _, clear := range []string{body.Passcode, body.ExternalCardID} {
		if bytes.Contains(all, []byte(clear)) || bytes.Contains(all, []byte(hex.EncodeToString([]byte(clear)))) {
			t.Errorf("%q stands in the database", clear)
		}
	}
	if k, err := a.token.Active(hsm.Passcode); err != nil || k.Algorithm != hsm.HMACSHA256 {
		t.Errorf("key %+v, %v", k, err)
	}
}
