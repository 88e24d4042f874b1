package connector

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/internal/outbound"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// What requests and answers are on the wire.
const (
	// AnswerType is the typ of answers.
	AnswerType = "mintmark-connector-answer+jwt"
	// ContentType is that of both.
	ContentType = "application/jose"
	// KeyHeader repeats a request's jti, for receivers that look no further.
	KeyHeader = "Idempotency-Key"
	// KindActivation is the kind of requests to activate a token; notices have their own.
	KindActivation = "activate-token"

	// requestLife is how long a request is good for.
	requestLife = 2 * time.Minute
)

// The outcomes of notices.
const (
	Accepted = "ACCEPTED" // it is the receiver's now
	Refused  = "REFUSED"  // it will never be
)

// ErrNoAnswer is returned when there is no answer of the network, or none that its signature
// proves. What was asked for may have been done.
var ErrNoAnswer = errors.New("no answer from the network")

// A request is what is signed and sent.
type request struct {
	kind, tenant, key string
	body              []byte // JSON
}

// answer is what the network signs.
type answer struct {
	InResponseTo string `json:"inResponseTo"` // the request's jti
	Tenant       string `json:"tenant"`
	Kind         string `json:"kind"`
	Outcome      string `json:"outcome"`
	Comment      string `json:"comment"`
}

// Activate asks the network to activate a token; see provisioning.Connector. All tries are of
// one signed request.
func (c *Connector) Activate(ctx context.Context, who provisioning.Caller, a provisioning.TokenActivation) (provisioning.ActivationAnswer, error) {
	var none provisioning.ActivationAnswer
	body, err := json.Marshal(map[string]string{"tokenUniqueReference": a.TokenUniqueReference})
	if err != nil {
		return none, err
	}
	r := request{kind: KindActivation, tenant: who.Tenant, key: a.IdempotencyKey, body: body}
	intent := record.Intent{
		Operation: record.CallNetwork, Tenant: who.Tenant, Issuer: who.Issuer, Subject: secret.Reference(who.Subject),
		RequestID: who.RequestID, Refs: map[string]string{"kind": r.kind, "key": r.key},
	}
	signed, err := c.sign(ctx, intent, func(*record.Ticket) (request, error) { return r, nil })
	if err != nil {
		return none, err
	}
	for attempt := 0; ; attempt++ {
		got, err := c.post(ctx, signed)
		outcome := provisioning.ActivationOutcome(got.Outcome)
		switch {
		case err != nil:
		case outcome == provisioning.ActivationApproved, outcome == provisioning.ActivationDeclined, outcome == provisioning.ActivationFailed:
			return provisioning.ActivationAnswer{Outcome: outcome, Comment: printable(got.Comment)}, nil
		}
		if !wait(ctx, outbound.Backoff(c.cfg.Retry.First, attempt, c.cfg.Retry.Longest)) {
			return none, errors.Join(ErrNoAnswer, err)
		}
	}
}

// wait waits, unless the context ends before that.
func wait(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// signedRequest is a request as it leaves.
type signedRequest struct {
	request
	compact string
}

// sign has the token sign a request, which is on record before it can leave. compose gives the
// request under the ticket of its signature; its body is overwritten.
func (c *Connector) sign(ctx context.Context, in record.Intent, compose func(*record.Ticket) (request, error)) (signedRequest, error) {
	if err := c.cfg.Gate.Ready(record.CallNetwork); err != nil {
		return signedRequest{}, err
	}
	t, err := c.cfg.Recorder.Open(in)
	if err != nil {
		return signedRequest{}, err
	}
	r, held, err := c.make(ctx, t, compose)
	if err != nil {
		failed := record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}
		return signedRequest{}, errors.Join(err, record.Fail(ctx, c.cfg.Recorder, t, failed))
	}
	receipt, err := record.Conclude(ctx, c.cfg.Recorder, t, record.Done(held.Digest()))
	if err != nil {
		return signedRequest{}, err
	}
	compact, err := held.Release(receipt)
	return signedRequest{r, compact}, err
}

func (c *Connector) make(ctx context.Context, t *record.Ticket, compose func(*record.Ticket) (request, error)) (request, record.Held[string], error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	r, err := compose(t)
	defer secret.Wipe(r.body)
	if err != nil {
		return request{}, record.Held[string]{}, err
	}
	now := c.cfg.Now()
	signed, err := c.cfg.Gate.SignConnector(ctx, t, jwt.MapClaims{
		"iss": c.cfg.Issuer, "aud": c.cfg.Audience, "iat": now.Unix(), "exp": now.Add(requestLife).Unix(),
		"jti": r.key, "tenant": r.tenant, "kind": r.kind, "body": json.RawMessage(r.body),
	})
	return request{kind: r.kind, tenant: r.tenant, key: r.key}, signed.Token, err
}

// post sends a request once and gives the answer, if it is the network's and to this.
func (c *Connector) post(ctx context.Context, r signedRequest) (answer, error) {
	got, err := c.cfg.Post.Post(ctx, c.cfg.URL, ContentType, []byte(r.compact), http.Header{KeyHeader: {r.key}})
	if err != nil {
		c.cfg.Observer.NetworkCall(r.kind, "no-answer")
		return answer{}, err
	}
	a, err := c.verify(got, r)
	if err != nil {
		c.cfg.Observer.NetworkCall(r.kind, "not-verified")
		return answer{}, err
	}
	c.cfg.Observer.NetworkCall(r.kind, "answered")
	return a, nil
}

// verify gives what an answer says, if a key of the network signed it for this request.
func (c *Connector) verify(got Answer, r signedRequest) (a answer, err error) {
	payload, err := signer.VerifyJWS(string(got.Body), AnswerType, c.cfg.Keys)
	if got.Status != http.StatusOK || err != nil || json.Unmarshal(payload, &a) != nil ||
		a.InResponseTo != r.key || a.Tenant != r.tenant || a.Kind != r.kind {
		return answer{}, errors.New("answer is not one of the network to this request")
	}
	return a, nil
}

// maxComment bounds a comment of the network's.
const maxComment = 256

// printable keeps what may be shown of a comment.
func printable(s string) string {
	var b []byte
	for _, c := range []byte(s) {
		if c >= ' ' && c <= '~' && len(b) < maxComment {
			b = append(b, c)
		}
	}
	return secret.Reference(string(b))
}
