package provisioning

import (
	"context"
	"errors"
)

// Connector is the way to the payment network, or its service provider. Package
// internal/provisioning/connector has the implementations: http, and a simulator.
type Connector interface {
	// Activate has the network activate a token (guide, 6.3.1, method B) and gives its
	// answer. It signs and records each call itself, and tries more than once as long as ctx
	// allows: the network does not do twice what has one idempotency key.
	//
	// An error means that there is no answer, or none that its signature proves: the token
	// may be active all the same, and the same activation may be asked for again under the
	// same key. One with RetryAfter says that the trouble is ours (token, database); any
	// other is the network's.
	Activate(ctx context.Context, who Caller, a TokenActivation) (ActivationAnswer, error)
}

// ErrNoConnector is returned for what needs the network where none is configured.
var ErrNoConnector = errors.New("no connector to the network is configured")

// TokenActivation asks for a token to be activated.
type TokenActivation struct {
	IdempotencyKey       string // 1 to 128 characters of A-Z, a-z, 0-9, '_', '-'; one for one activation
	TokenUniqueReference string
}

// ActivationOutcome is what the network says of an activation.
type ActivationOutcome string

// The outcomes.
const (
	ActivationApproved ActivationOutcome = "APPROVED" // the token is active
	ActivationDeclined ActivationOutcome = "DECLINED" // it will not be, and asking again is no use
	ActivationFailed   ActivationOutcome = "FAILED"   // it could not be done; asking again may help
)

// An ActivationAnswer is the network's answer, whose signature holds.
type ActivationAnswer struct {
	Outcome ActivationOutcome
	Comment string // for people, at most 256 printable ASCII characters; empty if there is none
}
