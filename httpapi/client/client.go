// Package client calls the API of mintmark. It is generated from httpapi/openapi.yaml, all
// but this file.
//
//	c, err := client.New("https://mint.example", sign)
//	res, err := c.SignCardWithResponse(ctx, client.SignCardRequest{…})
//	switch {
//	case err != nil: // no answer
//	case res.JSON200 != nil: // res.JSON200.EncryptedData …
//	default:
//		p, err := client.ProblemOf(res.Body)
//		if err == nil && p.Type == client.ProblemNonceUsed { // start again in the app
//		}
//	}
//
// Nothing is sent twice by itself. What was answered 503 may be sent again when Retry-After
// has passed; signed-cards with the same nonce too, since nothing was released. A request that
// got no answer may have been carried out: a nonce is then used, and the app starts again.
//
// The admin listener is not in here: its callers are operators, and mintmark's own commands.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

//go:generate go tool -modfile=../../tools/go.mod oapi-codegen -config oapi-codegen.yaml ../openapi.yaml

// timeout bounds a call with all that belongs to it; the service itself answers within 15
// seconds unless it is configured otherwise.
const timeout = 30 * time.Second

// New gives a client of the API at base. token gives the bearer token of each call, a JWT by
// one of the caller's configured keys; nil for calls that need none, or for a caller whom a TLS
// client certificate proves (WithHTTPClient). A call under another authorization, such as a
// device's, sets the header by an editor of its own. Redirects are not followed: the service sends
// none, and a token is not for whoever does.
func New(base string, token func(context.Context) (string, error), options ...ClientOption) (*ClientWithResponses, error) {
	all := []ClientOption{WithHTTPClient(&http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})}
	if token != nil {
		all = append(all, WithRequestEditorFn(func(ctx context.Context, req *http.Request) error {
			bearer, err := token(ctx)
			if err != nil {
				return fmt.Errorf("bearer token: %w", err)
			}
			req.Header.Set("Authorization", "Bearer "+bearer)
			return nil
		}))
	}
	c, err := NewClientWithResponses(base, append(all, options...)...)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", base, err)
	}
	return c, nil
}

// errNoProblem is what ProblemOf makes of another body.
var errNoProblem = errors.New("the answer is no problem document")

// ProblemOf reads the body of an answer that is an error (RFC 9457).
func ProblemOf(body []byte) (Problem, error) {
	var p Problem
	if err := json.Unmarshal(body, &p); err != nil || p.Type == "" {
		return Problem{}, errNoProblem
	}
	return p, nil
}
