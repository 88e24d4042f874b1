package hsm

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// signingKeys are the usable keys that sign, active ones first, by name.
func (e *epoch) signingKeys() []*tokenKey {
	var keys []*tokenKey
	for _, k := range e.keys {
		if k.Algorithm.Public() && k.problem == "" && !k.lost.Load() {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b *tokenKey) int {
		return cmp.Or(cmp.Compare(a.State, b.State), cmp.Compare(a.Name, b.Name))
	})
	return keys
}

// probe makes one real signature and verifies it; where no key signs, it proves the key
// agreement. It is the judge of errors that prove nothing by themselves.
func (e *epoch) probe() error {
	keys := e.signingKeys()
	if len(keys) == 0 && e.token.cfg.SignaturesOnly {
		return e.withSession(func(u *unit) error { return u.ping() })
	}
	if len(keys) == 0 {
		return e.withSession(func(u *unit) error { return u.proveKDF(e.kdf) })
	}
	_, err := e.signVerified(keys[0], selfTestDigest(), selfTestHash)
	return err
}

// keepAlive keeps idle sessions from being cut and notices a token that died unasked:
// one cheap call and one real signature an interval. Errors take the way of every
// other error: through cure and judge.
func (t *Token) keepAlive(ctx context.Context) {
	tick, recheck := time.NewTicker(t.cfg.KeepAlive), time.NewTicker(recheckEvery)
	defer tick.Stop()
	defer recheck.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.checkUp(ctx)
		case <-recheck.C:
			t.recheckKeys(ctx)
		}
	}
}

func (t *Token) checkUp(ctx context.Context) {
	defer func() {
		if recover() != nil {
			t.mod.machine.trouble(errors.New("keep-alive: panic in the PKCS#11 binding"))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, t.cfg.CallTimeout)
	defer cancel()
	err := t.Ping(ctx)
	if err == nil {
		_, err = run(ctx, t, t.rsa, "keep-alive", func(e *epoch) (struct{}, error) { return struct{}{}, e.probe() })
	}
	var down *DownError
	switch {
	case err == nil:
	case errors.As(err, &down), errors.Is(err, ErrBusy), errors.Is(err, ErrClosed), ctx.Err() != nil:
		// A change of state has its own line; a busy token is not a dead one.
	default:
		// It answers, and does not do its work, also not the second time.
		t.mod.machine.trouble(err)
	}
}

// recheckEvery is how often a missing key is looked for.
const recheckEvery = 3 * time.Second

// recheckKeys looks again for keys that were missing or differed: what an operator
// restores is used without a restart. A new epoch is begun only for what has changed.
func (t *Token) recheckKeys(ctx context.Context) {
	if !slices.ContainsFunc(t.Keys(), func(k KeyStatus) bool { return k.Problem.curable() }) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, t.cfg.CallTimeout)
	defer cancel()
	var seen *epoch
	now, err := work(ctx, t, "recheck-keys", func(u *unit) (map[string]*tokenKey, error) {
		seen = u.e
		keys, _, err := u.findKeys()
		return keys, err
	})
	if err != nil {
		return // the state says why, or the next look succeeds
	}
	for name, k := range seen.keys {
		if now[name].problem != k.problem {
			if err := t.renew(ctx, seen); err != nil { // the epoch goes on as it was
				t.log.Warn("a key has changed and could not be taken up", "key", name, "error", err)
			}
			return
		}
	}
}

// curable reports whether the problem may be gone when the token is looked at again.
func (p KeyProblem) curable() bool { return p == KeyMissing || p == KeyLost || p == KeyAmbiguous }
