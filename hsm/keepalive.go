package hsm

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/miekg/pkcs11"
)

// signingKeys are the usable keys that sign, active ones first, then those that are next,
// by name. They are what the token is tested with.
func (e *epoch) signingKeys() []*tokenKey {
	var keys []*tokenKey
	for _, k := range e.keys {
		if k.signs() && k.problem == "" && !k.lost.Load() {
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

// What a member asks of its token by itself, as metrics name it.
const (
	opKeepAlive  = "keep-alive"
	opRecheckKey = "recheck-key"
)

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
			t.guarded(ctx, t.checkUp)
		case <-recheck.C:
			t.guarded(ctx, t.recheckKeys)
		}
	}
}

// guarded does one piece of keeping alive, which nobody waits for: a panic is trouble.
func (t *Token) guarded(ctx context.Context, do func(context.Context)) {
	defer func() {
		if recover() != nil {
			t.Restart(errBindingPanic)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, t.cfg.CallTimeout)
	defer cancel()
	do(ctx)
}

func (t *Token) checkUp(ctx context.Context) {
	err := t.Ping(ctx)
	if err == nil {
		_, err = run(ctx, t, t.rsa, opKeepAlive, func(e *epoch) (struct{}, error) { return struct{}{}, e.probe() })
	}
	var later interface{ RetryAfter() time.Duration }
	switch {
	case err == nil, ctx.Err() != nil:
	case errors.As(err, &later):
		// A change of state has its own line; a busy token is not a dead one.
	default:
		// It answers, and does not do its work, also not the second time.
		t.Restart(err)
	}
}

// recheckEvery is how often a missing key is looked for.
const recheckEvery = 3 * time.Second

// recheckKeys looks again for keys that were missing or differed: what an operator
// restores is used without a restart. A new epoch is begun only for what has changed.
func (t *Token) recheckKeys(ctx context.Context) {
	for _, k := range t.Keys() {
		if !k.Problem.curable() {
			continue
		}
		seen := t.current.Load()
		now, err := work(ctx, t, opRecheckKey, func(u *unit) (KeyProblem, error) { return u.recheck(k.Key) })
		if err != nil || now == k.Problem {
			continue
		}
		if err := t.renew(ctx, seen, true); err != nil { // the epoch goes on as it was
			t.log.Warn("a key has changed and could not be taken up", "key", k.Name, "error", err)
		}
		return
	}
}

// recheck says what is wrong with a key now. Of a key that signs, what it signs must
// verify, too.
func (u *unit) recheck(k Key) (KeyProblem, error) {
	objects, err := u.objects(pkcs11.NewAttribute(pkcs11.CKA_ID, k.ckaID()))
	if err != nil {
		return "", err
	}
	found, err := u.match(k, objects)
	if err != nil {
		return "", err
	}
	if found.problem != "" || !k.Algorithm.Public() {
		return found.problem, nil
	}
	if k.Purpose.agrees() {
		if u.proveAgreement(found, []kdfWay{u.e.agreement}) != nil {
			return KeyLost, nil
		}
		return "", nil
	}
	sig, err := u.e.sign(found, selfTestDigest(), selfTestHash)
	if err != nil || verify(found.pub, selfTestHash, selfTestDigest(), sig) != nil {
		return KeyLost, nil
	}
	return "", nil
}

// curable reports whether the problem may be gone when the token is looked at again.
func (p KeyProblem) curable() bool { return p == KeyMissing || p == KeyLost || p == KeyAmbiguous }
