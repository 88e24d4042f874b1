package access

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"
)

// A Step is one decision on the way to a caller and its rights, for the operator.
// Detail names what is configured, and iss, kid, alg, aud, sub and the like as the
// token has them, quoted and cut to a bounded length; never a signature, and no more
// of the token.
type Step struct {
	Name   string
	OK     bool
	Detail string
}

// Explain goes the way of Authenticate and tells each step of it up to the first that
// fails; for a caller that is authenticated it then tells each right, granted or not.
// It counts nothing and uses nothing up.
func (v *Verifier) Explain(ctx context.Context, p Proof) []Step {
	var t trace
	c, err := v.authenticate(ctx, p, &t)
	if err == nil {
		for _, r := range rights {
			t.right(c, r)
		}
	}
	return t.steps
}

// trace collects the steps of one authentication. A nil trace collects nothing.
type trace struct{ steps []Step }

// step notes a step that ended with err, and gives err back. The reason stands before
// the detail.
func (t *trace) step(name string, err error, detail string, args ...any) error {
	if t == nil {
		return err
	}
	s := Step{Name: name, OK: err == nil, Detail: fmt.Sprintf(detail, args...)}
	if r := ReasonOf(err); r != "" {
		s.Detail = string(r) + ": " + s.Detail
	} else if err != nil {
		s.Detail = err.Error()
	}
	t.steps = append(t.steps, s)
	return err
}

// right notes whether c has the right r.
func (t *trace) right(c Caller, r Right) {
	forSome := slices.ContainsFunc(c.grants, func(g grant) bool { return g.Right == r })
	err := c.May(r)
	detail := "granted"
	switch _, single := c.granted(r); {
	case errors.Is(err, ErrForbidden) && forSome:
		detail = "granted to this client, but not for this sub, usr and kid"
	case errors.Is(err, ErrForbidden):
		detail = "not granted to this client"
	case err != nil:
		detail = "granted for one use of each token, and this one has no jti"
	case single:
		detail = "granted for one use of the token; whether it has been used is not known here"
	}
	t.steps = append(t.steps, Step{Name: "right " + string(r), OK: err == nil, Detail: detail})
}

// maxQuoted bounds what Explain repeats of one claim, in bytes before escaping.
const maxQuoted = 300

// quoted is a value for the operator's eyes, with what does not print escaped.
type quoted jsontext.Value

func (q quoted) String() string {
	if q == nil {
		return "absent"
	}
	s, ok := text(jsontext.Value(q))
	if !ok {
		s = string(q)
	}
	more := ""
	if len(s) > maxQuoted {
		s, more = s[:maxQuoted], " and more"
	}
	if !ok {
		return fmt.Sprintf("not a text but %q%s", s, more)
	}
	return fmt.Sprintf("%q%s", s, more)
}
