package hsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// keyring is the one that work is done by at the moment: the current epoch's.
func (t *Token) keyring() *Keyring {
	if e := t.current.Load(); e != nil {
		return e.ring
	}
	return t.wanted.Load()
}

// keyring is the one that was last taken up by every member that could.
func (h *HSM) keyring() *Keyring { return h.ring.Load() }

// Use has the member take up another keyring: a new epoch in place of the current one, in
// which every key is proved again. Work under way is done by the old keyring; when Use has
// returned nil, nothing is done by it any more. A member without an epoch takes it up with
// its next. Its error is also trouble: the member is then opened anew, by the new keyring.
// Of two at once the one that came later is taken up, and the other gets errSuperseded.
func (t *Token) Use(ctx context.Context, ring *Keyring) error {
	t.wanted.Store(ring)
	return t.takeUp(ctx, ring)
}

var errSuperseded = errors.New("another one has been taken up since")

// takeUp is Use of the keyring that is wanted.
func (t *Token) takeUp(ctx context.Context, ring *Keyring) error {
	for {
		e, err := t.settled(ctx)
		switch {
		case t.wanted.Load() != ring:
			err = errSuperseded
		case err == nil && (e == nil || e.ring == ring):
			return nil
		case err == nil:
			err = t.settle(t.renew(ctx, e, false))
		}
		passing := errors.Is(err, ErrBusy) || errors.Is(err, errLoginBusy)
		if err == nil || (passing && ctx.Err() == nil) {
			continue
		}
		if passing { // or it would go on with the keyring before
			t.Restart(fmt.Errorf("keyring not taken up: %w", err))
		}
		return fmt.Errorf("take up keyring on %q: %w", t.cfg.Name, err)
	}
}

// settled gives the current epoch while none is being begun: one that was would have begun
// with the keyring before.
func (t *Token) settled(ctx context.Context) (*epoch, error) {
	if e := t.current.Load(); e != nil {
		return e, nil
	}
	select {
	case t.mod.machine.op <- struct{}{}:
		defer func() { <-t.mod.machine.op }()
		return t.current.Load(), nil
	case <-t.mod.machine.gone:
		return nil, nil // for good
	case <-ctx.Done():
		return nil, &unavailable{err: ErrBusy, after: time.Second}
	}
}

// Use has every member take up another keyring, all at the same time, since one that hangs
// must not keep it from the others; see Token.Use. Its error names the members that could
// not; they do as soon as they work again.
func (h *HSM) Use(ctx context.Context, ring *Keyring) error {
	h.using.Lock()
	defer h.using.Unlock()
	errs := make([]error, len(h.members))
	var all sync.WaitGroup
	for i, m := range h.members {
		all.Go(func() { errs[i] = m.Use(ctx, ring) })
	}
	all.Wait()
	h.ring.Store(ring)
	return errors.Join(errs...)
}

// Drain waits until every call that had a place in a lane, or waited for one, is over.
func (h *HSM) Drain(ctx context.Context) error {
	for _, t := range h.members {
		release, err := t.drain(ctx)
		if err != nil {
			return fmt.Errorf("drain %q: %w", t.Name(), err)
		}
		release()
	}
	return nil
}

// Handover is a view of the keyring for the moment in which it takes the place of before:
// keys that were active there and are retired here still make what is asked of them by
// name, and are no purpose's first choice any more. A process takes up this view, turns
// everything that names a key to the new ones, and then takes up the keyring itself: no
// request in between finds its key retired under it.
func (r *Keyring) Handover(before *Keyring) *Keyring {
	view := *r
	view.Keys = nil
	var leaving []Key
	for _, k := range r.Keys {
		old, ok := before.Find(k.Name)
		if ok && old.State == Active && k.State == Retired {
			k.State = Active
			leaving = append(leaving, k)
			continue
		}
		view.Keys = append(view.Keys, k)
	}
	view.Keys = append(view.Keys, leaving...)
	return &view
}

// published are the purposes whose public keys others fetch before they verify with them.
var published = []Purpose{MerchantJWT, ProximityToken}

// Follows reports what keeps the keyring from taking the place of before in a running
// process: it names everything at once. A key goes from next to active to retired and not
// back, it is taken out only when it is retired, what it is stays as it was, and one that
// signs what others verify is published as next before it is active.
func (r *Keyring) Follows(before *Keyring) error {
	var wrong []error
	say := func(format string, a ...any) { wrong = append(wrong, fmt.Errorf(format, a...)) }
	if r.Environment != before.Environment {
		say("it is for %s, and the one in use for %s", r.Environment, before.Environment)
	}
	for _, old := range before.Keys {
		k, ok := r.Find(old.Name)
		switch {
		case !ok && old.State == Active:
			say("key %s is active and no longer listed; retire it first", old.Name)
		case !ok:
		case k.ID != old.ID || k.Purpose != old.Purpose || k.Algorithm != old.Algorithm || k.Provenance != old.Provenance:
			say("key %s is another key than before; give it another name", k.Name)
		case k.Purpose == CardIndex && old.State == Active && k.State != Active:
			say("key %s finds the stored cards: under another one they are not found, and have to be stored anew", k.Name)
		case old.State == Retired && k.State != Retired, old.State == Active && k.State == Next:
			say("key %s was %s and would be %s again", k.Name, old.State, k.State)
		}
	}
	for _, k := range r.Keys {
		_, listed := before.Find(k.Name)
		first := !slices.ContainsFunc(before.Keys, func(old Key) bool { return old.Purpose == k.Purpose })
		if k.State == Active && !listed && !first && slices.Contains(published, k.Purpose) {
			say("key %s is active and was never next: who verifies what it signs does not know it yet", k.Name)
		}
	}
	return errors.Join(wrong...)
}
