// Package record makes the wrong order impossible: no use of a key without a
// committed record of the intent, no output without a committed record of the
// result.
//
// The order is held by three values, each of which only the step before can give:
//
//	ticket, err := recorder.Begin(ctx, intent, claim)         // committed: intent and claim
//	held, err := gate.SealECCv2(ctx, ticket, …)               // an output that cannot be read yet
//	receipt, err := recorder.Conclude(ctx, ticket, record.Done(held.Digest()), use)
//	out, err := held.Release(receipt)                         // committed: result; only now readable
//
// A Ticket is proof that an Intent is durable; the gate (package signer) takes one
// for every operation. A Held is an output with its digest showing and its value
// locked. A Receipt is proof that a Result naming that digest is durable; it opens
// the Held.
//
// An operation that consumes nothing may take its ticket from Recorder.Open instead:
// its intent is then committed together with its result, in one transaction, which is
// still before anything can be read.
//
// Only the recorder (package internal/audit) issues tickets and receipts; a test of the
// project's structure holds everyone else to that, since Go has no friend packages.
package record

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Operation names what is done, in the log and towards the gate.
type Operation string

// The operations of mintmark.
const (
	SignCard           Operation = "push-provisioning.sign-card"  // a sealed card payload with its activation data
	ActivationData     Operation = "push-provisioning.activation" // activation data alone, for In-App Verification
	StoreCard          Operation = "cards.store"                  // a card written to the vault
	ReadCard           Operation = "cards.read"                   // a card's masked data shown
	DeleteCard         Operation = "cards.delete"                 // a card removed from the vault
	RekeyCard          Operation = "cards.rekey"                  // a card moved to the active vault key
	SignMerchantToken  Operation = "merchant.sign-token"          // a merchant JWT
	CheckMerchantToken Operation = "merchant.check-token"         // a merchant JWT looked at; only its refusals are recorded
	SignProximityToken Operation = "merchant.sign-proximity"      // an Apple proximity token
	PutPassAsset       Operation = "passes.put-asset"             // a file for passes to share
	PutPassType        Operation = "passes.put-type"              // certificate, files and template of a pass type
	PutPass            Operation = "passes.put"                   // a pass made or changed
	VoidPass           Operation = "passes.void"                  // a pass voided
	ReadPass           Operation = "passes.read"                  // a pass's document looked at; only refusals are recorded
	SignPass           Operation = "passes.sign"                  // a version of a pass signed
	PersonalizePass    Operation = "passes.personalize"           // a personalization token signed for a device
	ServePass          Operation = "passes.serve"                 // a device's call; only refusals are recorded
	CertifyKey         Operation = "keys.certify"                 // a self-signed certificate over a key's public half
	ProposeChange      Operation = "changes.propose"              // a change put up for a second person's approval
	ApproveChange      Operation = "changes.approve"              // a change approved and made
	RejectChange       Operation = "changes.reject"               // a change that shall not be made
	ReadChange         Operation = "changes.read"                 // changes looked at; only refusals are recorded
	RequestCertificate Operation = "keys.request-certificate"     // a request (PKCS#10) for a certificate over a key's public half
	PutWalletToken     Operation = "wallet-tokens.put"            // a wallet token's state taken into the registry
	ReadWalletToken    Operation = "wallet-tokens.read"           // a wallet token looked at, with its history
	SearchTokens       Operation = "wallet-tokens.search"         // an owner's wallet tokens looked up
	SearchCards        Operation = "cards.search"                 // an owner's cards listed, for a wallet to offer
	PutEnablement      Operation = "enablement.put"               // which cards may be provisioned, changed
	ReadEnablement     Operation = "enablement.read"              // the same, looked at; recorded where a token is used up by it, and refusals
	DecideProvisioning Operation = "push-provisioning.decide"     // the network's approval check answered
	ActivateToken      Operation = "push-provisioning.activate"   // a token activated through the network
	SendPasscode       Operation = "passcodes.send"               // a one-time passcode drawn, and put into the outbox
	VerifyPasscode     Operation = "passcodes.verify"             // an attempt at a one-time passcode
	CallNetwork        Operation = "network.call"                 // a request to the network, signed
	ViewConsole        Operation = "console.view"                 // the console looked at; only refusals are recorded
)

// An Intent says what is about to be done, for whom. It holds identifiers and
// digests, never card data, a PIN, a token or anything derived from a PAN.
type Intent struct {
	Operation Operation         `json:"operation"`
	Tenant    string            `json:"tenant"`
	Issuer    string            `json:"iss,omitempty"` // the client's JWT issuer
	Subject   string            `json:"sub,omitempty"` // the client's subject
	RequestID string            `json:"requestId,omitempty"`
	Refs      map[string]string `json:"refs,omitempty"` // further identifiers, by name
}

// A Digest is the SHA-256 of one released output, under the output's name.
type Digest struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"` // hex
}

// Outcome is how an operation ended.
type Outcome string

// The outcomes.
const (
	OutcomeDone    Outcome = "done"    // outputs were made and may be released
	OutcomeRefused Outcome = "refused" // the request's own fault; nothing was made that leaves
	OutcomeFailed  Outcome = "failed"  // our fault or the token's; nothing was made that leaves
)

// A Result says how an operation ended.
type Result struct {
	Outcome Outcome           `json:"outcome"`
	Reason  string            `json:"reason,omitempty"` // a stable code, unless done
	Outputs []Digest          `json:"outputs,omitempty"`
	Refs    map[string]string `json:"refs,omitempty"`
}

// Done is the result of an operation whose outputs may be released.
func Done(outputs ...Digest) Result { return Result{Outcome: OutcomeDone, Outputs: outputs} }

// A Change is a row of a domain that must become durable in the same transaction as
// the record beside it: a claim, the use of a nonce, a stored card. Each domain
// defines its changes as plain values; the store knows how to write them. A change
// that cannot be made (a nonce taken by somebody else) fails the whole step, with
// the domain's own error.
type Change interface{ IsChange() }

// A Claim is a Change that takes something single-use, which Begin commits with the
// intent. It is held under a lease: what never ends it is over when the lease is.
type Claim interface {
	Change
	// End is the change that ends the claim, once it was committed: used for good, or
	// free again.
	End(used bool) Change
}

// A Ticket is proof that an intent is durable, or will be before anything leaves. It
// allows each named output once.
type Ticket struct {
	id       string
	intent   Intent
	deferred bool

	mu    sync.Mutex // guards all below
	used  []string   // names of outputs made under this ticket
	ended bool
}

// IssueTicket is called by the recorder, after the intent was committed under id.
func IssueTicket(id string, in Intent) *Ticket { return &Ticket{id: id, intent: in} }

// IssueDeferredTicket is called by the recorder for an operation whose intent is
// committed together with its result.
func IssueDeferredTicket(id string, in Intent) *Ticket {
	return &Ticket{id: id, intent: in, deferred: true}
}

// ID names the ticket's intent in the log.
func (t *Ticket) ID() string { return t.id }

// Intent is what was, or will be, recorded.
func (t *Ticket) Intent() Intent { return t.intent }

// Deferred reports whether the intent is committed together with the result.
func (t *Ticket) Deferred() bool { return t.deferred }

// End notes, for the recorder, that the operation's work is over, and reports whether it was
// not noted before.
func (t *Ticket) End() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := !t.ended
	t.ended = true
	return first
}

// ErrNoTicket is returned by the gate for a ticket that is missing, was issued for
// another operation, or has been used for the same output before.
var ErrNoTicket = errors.New("no valid ticket for this operation")

// Use marks the output called name as made. It fails if there is no ticket, if it
// is for another operation, or if the output was made before under this ticket.
func (t *Ticket) Use(op Operation, name string) error {
	if t == nil || t.id == "" {
		return fmt.Errorf("%w: %s without a recorded intent", ErrNoTicket, op)
	}
	if t.intent.Operation != op {
		return fmt.Errorf("%w: ticket is for %s, not %s", ErrNoTicket, t.intent.Operation, op)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains(t.used, name) {
		return fmt.Errorf("%w: %s has been made under it before", ErrNoTicket, name)
	}
	t.used = append(t.used, name)
	return nil
}

// A Receipt is proof that a result is durable.
type Receipt struct {
	ticket string
	result Result
}

// IssueReceipt is called by the recorder, after the result was committed.
func IssueReceipt(t *Ticket, res Result) *Receipt { return &Receipt{ticket: t.ID(), result: res} }

// Held is an output that has been made and is not out yet.
type Held[T any] struct {
	ticket string
	digest Digest
	open   func() T // a function: fmt prints its address, where it would print a value
}

// Hold locks value, an output made under t; wire is its form on the wire, of which
// the record keeps the SHA-256.
func Hold[T any](t *Ticket, name string, value T, wire []byte) Held[T] {
	sum := sha256.Sum256(wire)
	return Held[T]{ticket: t.ID(), digest: Digest{Name: name, SHA256: hex.EncodeToString(sum[:])}, open: func() T { return value }}
}

// Digest is what the result must name.
func (h Held[T]) Digest() Digest { return h.digest }

// ErrNoReceipt is returned for an output whose result is not on record.
var ErrNoReceipt = errors.New("output has no committed record")

// Release gives the output, if r is the receipt of a done result of the same ticket that names it.
func (h Held[T]) Release(r *Receipt) (T, error) {
	if r == nil || h.ticket == "" || r.ticket != h.ticket || r.result.Outcome != OutcomeDone || !slices.Contains(r.result.Outputs, h.digest) {
		var none T
		return none, fmt.Errorf("release %s: %w", h.digest.Name, ErrNoReceipt)
	}
	return h.open(), nil
}
