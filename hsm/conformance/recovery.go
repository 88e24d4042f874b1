package conformance

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
)

// recovery are the checks of many at once, and of trouble that passes.
func recovery() []check {
	return []check{
		{"many at once", always, manyAtOnce},
		{"a key that is removed costs itself alone", always, losesOneKey},
		{"recovery: sessions closed", always, recovers(func(h hand, slot uint) error { return h.CloseAllSessions(slot) })},
		{"recovery: logged out", always, recovers(func(h hand, _ uint) error { return h.Logout(h.s) })},
		{"recovery: module finalized", always, recovers(func(h hand, _ uint) error { return h.Finalize() })},
	}
}

// works are the kinds of work that this token does.
func (b *bench) works() []func(context.Context) error {
	var all []func(context.Context) error
	for _, what := range []string{signEC, signRSA} {
		if k, ok := b.keys[what]; ok {
			all = append(all, func(ctx context.Context) error { return signOnce(ctx, b.tok, k.Name, crypto.SHA256) })
		}
	}
	if !b.cfg.SignaturesOnly {
		all = append(all, func(ctx context.Context) error { return sealOnce(ctx, b.tok) })
	}
	if k, ok := b.keys[mac]; ok {
		all = append(all, func(ctx context.Context) error { return second(b.tok.HMAC(ctx, k.Name, message)) })
	}
	return all
}

// workers and rounds are how many do how much at once.
const (
	workers = 8
	rounds  = 3
)

func manyAtOnce(ctx context.Context, b *bench) (string, error) {
	works := b.works()
	if len(works) == 0 {
		return "", untried("the token does no work")
	}
	errs := make([]error, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			for range rounds {
				for j := range works { // each begins with another kind
					errs[i] = errors.Join(errs[i], works[(i+j)%len(works)](ctx))
				}
			}
		})
	}
	all.Wait()
	return fmt.Sprintf("%d workers, %d calls", workers, workers*rounds*len(works)), errors.Join(errs...)
}

// losesOneKey removes a key behind the member's back. It is missed when it is asked for,
// and nothing else is.
func losesOneKey(ctx context.Context, b *bench) (string, error) {
	name, err := b.key(victim)
	if err != nil {
		return "", err
	}
	if err := signOnce(ctx, b.tok, name, crypto.SHA256); err != nil {
		return "", err
	}
	err = b.raw.do(func(h hand) error {
		for _, class := range []uint{pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY} {
			o, err := h.half(class, idOf(b.keys[victim]))
			if err == nil {
				err = h.DestroyObject(h.s, o)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	err = signOnce(ctx, b.tok, name, crypto.SHA256)
	var gone *hsm.KeyError
	if !errors.As(err, &gone) {
		return "", fmt.Errorf("asked for the removed key: %w", orNone(err))
	}
	delete(b.keys, victim)
	for _, do := range b.works() {
		if err := do(ctx); err != nil {
			return "", err
		}
	}
	return "the key " + string(gone.Problem), nil
}

func orNone(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}

// recoverWithin bounds a recovery; one takes milliseconds in the process and a little more
// over a network.
const recoverWithin = 30 * time.Second

// recovers brings trouble on the idle member and asks for each kind of work until it is
// done. Every error until then must be one that passes.
func recovers(trouble func(h hand, slot uint) error) func(context.Context, *bench) (string, error) {
	return func(ctx context.Context, b *bench) (string, error) {
		works := b.works()
		if len(works) == 0 {
			return "", untried("the token does no work")
		}
		slot, err := b.raw.slot()
		if err != nil {
			return "", err
		}
		if err := b.raw.do(func(h hand) error { return trouble(h, slot) }); err != nil {
			return "", untried("the trouble was refused: " + err.Error())
		}
		ctx, cancel := context.WithTimeout(ctx, recoverWithin)
		defer cancel()
		began, refused := time.Now(), 0
		for _, do := range works {
			n, err := untilDone(ctx, do)
			if err != nil {
				return "", err
			}
			refused += n
		}
		return fmt.Sprintf("back after %v, %d refused meanwhile", time.Since(began).Round(time.Millisecond), refused), nil
	}
}

// untilDone repeats work while its errors say that they pass.
func untilDone(ctx context.Context, do func(context.Context) error) (refused int, err error) {
	for {
		err := do(ctx)
		var later interface{ RetryAfter() time.Duration }
		if err == nil || !errors.As(err, &later) || ctx.Err() != nil {
			return refused, err
		}
		refused++
		select {
		case <-ctx.Done():
			return refused, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}
