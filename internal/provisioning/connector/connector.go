// Package connector is the way to the payment network, or to the service provider that stands
// for it: requests that the token signs, answers whose signature is checked, and an outbox for
// what must not be lost. docs/connector.md is the contract on the wire.
//
//	c, err := connector.New(connector.Config{…})
//	answer, err := c.Activate(ctx, who, provisioning.TokenActivation{…})
//	go c.Deliver(ctx) // empties the outbox until ctx ends
//
// What it promises: a request is on record before it leaves, with its digest; whatever is
// asked for or told twice has the same idempotency key; and only what the other side has
// signed ends a notice, so that neither a crash, nor an endpoint that is down, nor a proxy
// that answers in its place loses one.
//
// What is not guaranteed: a notice may arrive twice, where a crash or a lost answer leaves
// open whether it did. A receiver that honours the idempotency key acts on it once.
package connector

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// Gate is what the connector asks of the keys; *signer.Gate is it.
type Gate interface {
	// Ready reports, without asking any token, whether an operation has a chance.
	Ready(op record.Operation) error
	SignConnector(ctx context.Context, t *record.Ticket, claims jwt.Claims) (signer.SignedJWT, error)
	OpenNotice(ctx context.Context, t *record.Ticket, tenant, id string, row signer.VaultRow) ([]byte, error)
}

var _ Gate = (*signer.Gate)(nil)

// Poster posts to a configured address: an adapter of outbound.Client, or a Simulator.
type Poster interface {
	// Post gives what answered, whatever its status. Nothing is retried.
	Post(ctx context.Context, address, contentType string, body []byte, header http.Header) (Answer, error)
}

// Answer is what answered a Post.
type Answer struct {
	Status int
	Body   []byte
}

// Config says what a Connector works with.
type Config struct {
	URL      string                      // where requests go
	Issuer   string                      // iss of requests: our name with the network
	Audience string                      // aud of requests: the network's name
	Keys     map[string]crypto.PublicKey // by which the network signs answers, by kid
	Recorder record.Recorder
	Gate     Gate
	Outbox   provisioning.Outbox
	Post     Poster
	Observer Observer
	Log      *slog.Logger
	Now      func() time.Time
	Retry    Retry
}

// Retry says when what failed is tried again.
type Retry struct {
	First   time.Duration // before the second try; twice as long before each further
	Longest time.Duration // between two tries of one notice
	Look    time.Duration // how often the outbox is looked at
	Lease   time.Duration // how long a notice is ours: longer than a call may take
}

// DefaultRetry is what a service runs with.
var DefaultRetry = Retry{First: 250 * time.Millisecond, Longest: 5 * time.Minute, Look: 500 * time.Millisecond, Lease: time.Minute}

// Observer counts. Its methods must not block.
type Observer interface {
	// NetworkCall counts a call by what came of it: answered, no-answer or not-verified.
	NetworkCall(kind, outcome string)
}

// Connector is the connector of one process. It is safe for concurrent use.
type Connector struct{ cfg Config }

var _ provisioning.Connector = (*Connector)(nil)

// New checks the configuration and gives the connector.
func New(cfg Config) (*Connector, error) {
	switch {
	case cfg.URL == "" || cfg.Issuer == "" || cfg.Audience == "" || len(cfg.Keys) == 0:
		return nil, errors.New("connector: URL, issuer, audience and keys are all needed")
	case cfg.Recorder == nil || cfg.Gate == nil || cfg.Outbox == nil || cfg.Post == nil || cfg.Observer == nil || cfg.Log == nil || cfg.Now == nil:
		return nil, errors.New("connector: recorder, gate, outbox, post, observer, log and now are all needed")
	case cfg.Retry.First <= 0 || cfg.Retry.Longest <= 0 || cfg.Retry.Look <= 0 || cfg.Retry.Lease <= 0:
		return nil, errors.New("connector: the times of retries must be positive")
	}
	for kid, key := range cfg.Keys {
		if kid == "" || !signer.CheckJWSKey(key) {
			return nil, errors.New("connector: a key has no kid, or is neither P-256 nor RSA of 2048 bits")
		}
	}
	return &Connector{cfg}, nil
}
