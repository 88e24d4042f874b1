package hsm

import (
	"context"
	"time"

	"golang.org/x/sync/semaphore"
)

// Lane is a kind of work with a bound of its own: RSA is slow, EC hurts beyond the
// number of cores, and one must not starve the other.
type Lane string

// The lanes.
const (
	LaneRSA Lane = "rsa" // RSA signatures
	LaneEC  Lane = "ec"  // EC signatures, key agreement and secret keys
	LaneTLS Lane = "tls" // signatures of TLS handshakes
)

// tlsConcurrency bounds the handshakes inside the token: they come from whoever connects.
const tlsConcurrency = 2

// Observer is told of every call that was admitted or refused. Its methods are called
// on the request's path: they must not block.
type Observer interface {
	// TokenCall reports one unit of work: how long it waited for a place, how long it
	// spent in the token, and its outcome: "ok", "busy", "down" or the name of a Class.
	TokenCall(op string, lane string, queued, inToken time.Duration, outcome string)
	// MemberState reports that a member has changed its state.
	MemberState(member, state string)
}

// lane admits a bounded number of callers, first come first served.
type lane struct {
	name  Lane
	size  int
	slots *semaphore.Weighted
	hands hands
}

func newLane(name Lane, size int) *lane {
	return &lane{name: name, size: size, slots: semaphore.NewWeighted(int64(size)), hands: make(hands)}
}

// enter waits for a place until the context ends.
func (l *lane) enter(ctx context.Context) error {
	if err := l.slots.Acquire(ctx, 1); err != nil {
		return &unavailable{err: ErrBusy, after: time.Second}
	}
	return nil
}

func (l *lane) leave() { l.slots.Release(1) }

// lanes are a member's.
type lanes struct{ rsa, ec, tls *lane }

func newLanes(cfg Config) lanes {
	return lanes{
		rsa: newLane(LaneRSA, cfg.RSAConcurrency),
		ec:  newLane(LaneEC, cfg.ECConcurrency),
		tls: newLane(LaneTLS, tlsConcurrency),
	}
}

func (l lanes) all() []*lane { return []*lane{l.rsa, l.ec, l.tls} }

// drain waits until no call is under way and keeps new ones out until release.
func (l lanes) drain(ctx context.Context) (release func(), err error) {
	var held []*lane
	release = func() {
		for _, one := range held {
			one.slots.Release(int64(one.size))
		}
	}
	for _, one := range l.all() {
		if err := one.slots.Acquire(ctx, int64(one.size)); err != nil {
			release()
			return nil, err
		}
		held = append(held, one)
	}
	return release, nil
}

// signing is the lane of a key's signatures. Handshakes have one of their own: they come
// before anybody is authenticated, and must not keep the signatures of those who are
// waiting.
func (l lanes) signing(r *Keyring, name string) *lane {
	switch k, _ := r.Find(name); {
	case k.Purpose == APITLS:
		return l.tls
	case k.Algorithm == P256:
		return l.ec
	default:
		return l.rsa
	}
}
