package passes

import (
	"errors"
	"fmt"

	"github.com/mintmark/mintmark/passkit"
)

// The errors that callers decide by.
var (
	// ErrUnknown: no such pass, or pass type, of this tenant.
	ErrUnknown = errors.New("no such pass or pass type")
	// ErrUnauthorized: the token is not the pass's, or there is no such pass.
	ErrUnauthorized = errors.New("the authentication token is not the pass's")
	// ErrPrecondition: the version is not the one that the caller has.
	ErrPrecondition = errors.New("the document has changed since")
	// ErrPersonalized: the pass is personalised, or is about to be.
	ErrPersonalized = errors.New("the pass is personalised, or is about to be")
)

// A FieldError is a member of a request that is malformed. It holds nothing of the input.
type FieldError struct {
	Member  string // by its name in the API
	Problem string
}

// Error names the member and the problem.
func (e *FieldError) Error() string { return fmt.Sprintf("%s %s", e.Member, e.Problem) }

// An InvalidError is a document that makes no pass which devices take.
type InvalidError struct{ Findings []passkit.Finding }

// Error has the first of them.
func (e *InvalidError) Error() string {
	return (&passkit.RefusedError{Findings: e.Findings}).Error()
}
