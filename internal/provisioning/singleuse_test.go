package provisioning_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// once is owner by a token that is good for one use.
func (w *world) once(jti string) provisioning.Caller {
	who, now := owner, w.clock.Now()
	who.Claims = record.Claims{&access.TokenUse{
		Issuer: owner.Issuer, ID: sha256.Sum256([]byte(jti)), Now: now, Until: now.Add(lease), Expires: now.Add(time.Hour),
	}}
	return who
}

// Looking at the enablement uses a token up where the right is for one use of each, which is on
// record; elsewhere an app may look as often as it shows a button, and nothing is written.
func TestEnablementUsesUpATokenThatIsForOneUse(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		if e, err := w.svc.Enablement(context.Background(), owner); err != nil || !e.Any() {
			t.Fatalf("%+v, %v", e, err)
		}
	}
	w.requireLog()
	if e, err := w.svc.Enablement(context.Background(), w.once("first")); err != nil || !e.Any() {
		t.Fatalf("%+v, %v", e, err)
	}
	if _, err := w.svc.Enablement(context.Background(), w.once("first")); !errors.Is(err, access.ErrReplayed) {
		t.Errorf("the token again: %v", err)
	}
	if _, err := w.svc.Enablement(context.Background(), w.once("second")); err != nil {
		t.Errorf("another token: %v", err)
	}
	w.requireLog("intent enablement.read", "result done", "intent enablement.read", "result done")
}
