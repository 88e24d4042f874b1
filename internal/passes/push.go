package passes

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mintmark/mintmark/internal/outbound"
	"github.com/mintmark/mintmark/passkit/apns"
	"github.com/mintmark/mintmark/passkit/webservice"
)

// PushConfig says how devices are told.
type PushConfig struct {
	Service  *Service
	Outbox   Outbox
	Host     string         // of Apple's push service; empty: the production one
	Roots    *x509.CertPool // who may certify it; nil: the system's
	MaxTLS   uint16         // 0: as the key allows
	PushType string         // apns-push-type; empty: none
	Lease    time.Duration  // how long a batch is this process's own
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	// Endpoints are where wallets of other makers are pushed, by kind. A kind without one
	// is not told.
	Endpoints map[webservice.ClientKind]Endpoint
	Post      Poster
	Log       *slog.Logger
}

// An Endpoint tells the devices of one kind of wallet.
type Endpoint struct {
	URL           string
	Authorization string // the header; empty: none
}

// Poster posts to a configured address; an adapter of outbound.Client is it.
type Poster interface {
	Post(ctx context.Context, address string, body []byte, header http.Header) (status int, err error)
}

// The measures of pushing.
const (
	pushBatch   = 128 // entries leased at once: what may be pushed twice after a crash
	pushAtOnce  = 32
	pushEvery   = time.Second      // how often the outbox is looked at
	pushRest    = 10 * time.Second // how often, where the certificate is refused
	longestWait = 15 * time.Minute // between two tries of one entry
	laneRest    = time.Minute      // between two tries where the push service has trouble
)

// Pusher empties the outbox, beside those of other processes on the same database: an entry is
// leased by one.
type Pusher struct{ cfg PushConfig }

// NewPusher gives a pusher.
func NewPusher(cfg PushConfig) (*Pusher, error) {
	if cfg.Service == nil || cfg.Outbox == nil || cfg.Post == nil || cfg.Log == nil || cfg.Lease <= 0 {
		return nil, errors.New("passes: service, outbox, post, log and lease are all needed to push")
	}
	return &Pusher{cfg}, nil
}

// Run pushes until the context ends, each pass type by itself, and in it each maker's push
// service: one that is refused, slow or away does not keep the others. Types that the
// settings gain get their lanes; the lanes of one that they lose end by themselves.
func (p *Pusher) Run(ctx context.Context) {
	var lanes sync.WaitGroup
	defer lanes.Wait()
	ways := []Wallets{{But: slices.Sorted(maps.Keys(p.cfg.Endpoints))}} // Apple's, and those that are not told
	for kind := range p.cfg.Endpoints {
		ways = append(ways, Wallets{Only: kind})
	}
	type place struct {
		id   TypeID
		kind webservice.ClientKind
	}
	var running sync.Map // of place
	look := time.NewTicker(pushRest)
	defer look.Stop()
	for {
		for id := range p.cfg.Service.Settings().Types {
			for _, to := range ways {
				at := place{id, to.Only}
				if _, runs := running.LoadOrStore(at, true); runs {
					continue
				}
				lanes.Go(func() {
					defer running.Delete(at)
					(&lane{pusher: p, id: id, to: to, log: p.cfg.Log.With("passType", id.Type, "tenant", id.Tenant)}).run(ctx)
				})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// lane is one pass type's pushing to one push service. Its one goroutine owns it.
type lane struct {
	pusher *Pusher
	id     TypeID
	to     Wallets
	log    *slog.Logger

	client  *apns.Client
	cert    [sha256.Size]byte // of client's certificate
	refused [sha256.Size]byte // the certificate that the push service refused; zero: none
	trouble int               // rounds in a row that met it
}

func (l *lane) run(ctx context.Context) {
	defer func() {
		if l.client != nil {
			l.client.Close()
		}
	}()
	for {
		wait, err := l.round(ctx)
		if errors.Is(err, ErrUnknown) { // the settings no longer name the type
			return
		}
		if err != nil && ctx.Err() == nil {
			l.log.Error("pushing is interrupted", "error", err)
			wait = max(wait, pushRest)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// round leases a batch, pushes it and notes what came of it. It says how long to wait
// before the next. What a crash leaves leased is pushed again when the lease is over.
func (l *lane) round(ctx context.Context) (time.Duration, error) {
	ready, err := l.connect(ctx)
	if err != nil || !ready {
		return pushRest, err
	}
	now := l.pusher.cfg.Service.cfg.Now()
	batch, err := l.pusher.cfg.Outbox.LeasePushes(ctx, l.id, l.to, now, now.Add(l.pusher.cfg.Lease), pushBatch)
	if err != nil || len(batch) == 0 {
		return pushEvery, err
	}
	results := l.pushAll(ctx, batch)
	var ends []PushEnd
	sent, later := false, false
	for i, r := range results {
		l.pusher.cfg.Service.cfg.Observer.PassPush(string(r.Outcome))
		sent, later = sent || r.Outcome == apns.Sent, later || r.Outcome == apns.Later
		ends = append(ends, l.end(batch[i], r))
	}
	// The pushes are out; that must be noted, also when we are to stop.
	noting, cancel := context.WithTimeout(context.WithoutCancel(ctx), pushRest)
	defer cancel()
	if err := l.pusher.cfg.Outbox.EndPushes(noting, ends); err != nil {
		return pushEvery, err
	}
	if later && !sent {
		l.trouble++
		return min(time.Second<<min(l.trouble, 6), laneRest), nil
	}
	l.trouble = 0
	if len(batch) < pushBatch {
		return pushEvery, nil
	}
	return 0, nil
}

// connect makes the client for the certificate that the type has at the moment. It is not
// ready without one, or with the one that was refused. An endpoint of another maker needs
// none of it.
func (l *lane) connect(ctx context.Context) (ready bool, err error) {
	service := l.pusher.cfg.Service
	if l.to.Only != "" {
		_, _, err := service.setting(l.id)
		return err == nil, err
	}
	a, err := service.about(ctx, l.id)
	if err != nil || a.identity.Certificate == nil {
		return false, err
	}
	sum := sha256.Sum256(a.identity.Certificate.Raw)
	if sum == l.refused {
		return false, nil
	}
	if l.client != nil && sum == l.cert {
		return true, nil
	}
	cert := tls.Certificate{
		Leaf:        a.identity.Certificate,
		PrivateKey:  service.cfg.Gate.PushKey(a.identity.Key, a.identity.Certificate.PublicKey),
		Certificate: [][]byte{a.identity.Certificate.Raw},
	}
	for _, c := range a.identity.Intermediates {
		if a.identity.Certificate.CheckSignatureFrom(c) == nil {
			cert.Certificate = append(cert.Certificate, c.Raw)
			break
		}
	}
	client, err := apns.New(apns.Config{
		Certificate: cert, Host: l.pusher.cfg.Host, Roots: l.pusher.cfg.Roots, MaxTLS: l.pusher.cfg.MaxTLS,
		PushType: l.pusher.cfg.PushType, Dial: l.pusher.cfg.Dial,
	})
	if err != nil {
		return false, err
	}
	if l.client != nil {
		l.client.Close()
	}
	if l.refused != [sha256.Size]byte{} {
		service.cfg.Observer.PassPushStopped(l.id.Type, false)
		l.log.Info("pushing goes on with another certificate")
	}
	l.client, l.cert, l.refused = client, sum, [sha256.Size]byte{}
	return true, nil
}

// notTried is the outcome of a push that was not made, or whose answer was not waited
// for, since pushing came to an end.
const notTried apns.Outcome = "not-tried"

// pushAll pushes a batch, some at once. After a Stop, or the end of the context, the rest
// is not tried.
func (l *lane) pushAll(ctx context.Context, batch []Push) []apns.Result {
	results := make([]apns.Result, len(batch))
	places := make(chan struct{}, pushAtOnce)
	stop, stopped := context.WithCancel(ctx)
	defer stopped()
	var all sync.WaitGroup
	for i, push := range batch {
		places <- struct{}{}
		if stop.Err() != nil {
			results[i] = apns.Result{Outcome: notTried}
			<-places
			continue
		}
		all.Go(func() {
			defer func() { <-places }()
			results[i] = l.push(ctx, push)
			switch {
			case results[i].Outcome == apns.Stop:
				stopped()
			case results[i].Outcome == apns.Later && ctx.Err() != nil:
				results[i] = apns.Result{Outcome: notTried}
			}
		})
	}
	all.Wait()
	return results
}

func (l *lane) push(ctx context.Context, push Push) apns.Result {
	if push.Client == webservice.Apple {
		return l.client.Push(ctx, l.id.Type, push.PushToken)
	}
	return l.pusher.pushOther(ctx, push)
}

// pushOther tells a wallet of another maker, at the address configured for its kind. [B]:
// the body is the one that WalletPasses has published; other makers follow it.
func (p *Pusher) pushOther(ctx context.Context, push Push) apns.Result {
	to, ok := p.cfg.Endpoints[push.Client]
	if !ok {
		return apns.Result{Outcome: apns.Refused, Reason: "no endpoint for this kind of wallet"}
	}
	body, err := json.Marshal(map[string]any{"passTypeIdentifier": push.Type, "pushTokens": []string{push.PushToken}})
	if err != nil {
		return apns.Result{Outcome: apns.Refused, Reason: "not encoded"}
	}
	header := http.Header{}
	if to.Authorization != "" {
		header.Set("Authorization", to.Authorization)
	}
	status, err := p.cfg.Post.Post(ctx, to.URL, body, header)
	switch {
	case err != nil, status == http.StatusTooManyRequests, status >= 500:
		return apns.Result{Outcome: apns.Later, Reason: "not taken"}
	case status >= 400:
		return apns.Result{Outcome: apns.Refused, Reason: fmt.Sprintf("status %d", status)}
	}
	return apns.Result{Outcome: apns.Sent}
}

// end says what becomes of an entry.
func (l *lane) end(push Push, r apns.Result) PushEnd {
	now := l.pusher.cfg.Service.cfg.Now()
	end := PushEnd{Push: push}
	switch r.Outcome {
	case apns.Unregistered:
		if end.Forget = r.Since; r.Since.IsZero() {
			end.Forget = now
		}
	case apns.BadToken:
		end.Forget = now
	case apns.Later:
		end.RetryAt = now.Add(max(outbound.Backoff(time.Second, push.Attempts, longestWait), r.RetryAfter))
	case notTried:
		end.RetryAt, end.NotTried = now, true
	case apns.Stop:
		end.RetryAt = now
		l.stop(r)
	case apns.Refused:
		l.log.Warn("push refused; the entry is dropped", "client", push.Client, "reason", r.Reason)
	}
	return end
}

// stop ends the type's pushing until it has another certificate, or the process starts
// anew: whatever is sent with this one is refused as well, and Apple takes note.
func (l *lane) stop(r apns.Result) {
	if l.refused == l.cert {
		return
	}
	l.refused = l.cert
	l.pusher.cfg.Service.cfg.Observer.PassPushStopped(l.id.Type, true)
	l.log.Error("the push service refuses the pass certificate; pushing of this type stops until it has another or the service starts anew", "reason", r.Reason)
}
