package provisioning

import "context"

// ActivationResponse is what came of an activation, in the words of the network's platform.
type ActivationResponse string

// The responses.
const (
	Approved ActivationResponse = "APPROVED" // the token is active
	Declined ActivationResponse = "DECLINED" // its state, a decision or the network forbids it
	Failed   ActivationResponse = "FAILED"   // it is unknown, or the network did not do it
)

// An Activation is what came of one.
type Activation struct {
	Reference string
	Last4     string // of a stored card, when it is active
	Response  ActivationResponse
	Comment   string // why: a stable code, or what the network said
}

func (s *Service) ActivateToken(ctx context.Context, who Caller, reference string) (Activation, error) {
	panic("after the merge")
}
