package httpapi

import (
	"cmp"
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/passkit"
)

// problem is an answer that is an error: an RFC 9457 document in the making.
type problem struct {
	status int
	name   string // the last part of type
	title  string
	detail string // what to do
	reason string // a stable code within the type
	code   int    // the number that SDKs know the reason by
	retry  time.Duration

	findings  []passkit.Finding
	challenge string // of a 401; empty: Bearer
}

// problemType is the prefix of every problem's type: a URN, since a stable name is all
// that is promised.
const problemType = "urn:mintmark:problem:"

func (p problem) write(c *gin.Context) {
	body := Problem{Type: ProblemType(problemType + p.name), Title: p.title, Status: p.status}
	set := func(field **string, value string) {
		if value != "" {
			*field = &value
		}
	}
	set(&body.Detail, p.detail)
	set(&body.Reason, p.reason)
	if p.code != 0 {
		body.Code = &p.code
	}
	set(&body.RequestId, requestID(c))
	if p.findings != nil {
		body.Findings = &p.findings
	}
	if p.status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", cmp.Or(p.challenge, "Bearer"))
	}
	retryAfter(c, p.retry)
	c.Set(outcomeKey, p.name)
	writeJSON(c, p.status, "application/problem+json", body)
	c.Abort()
}

// retryAfter says after how many seconds a later try may succeed, if one may.
func retryAfter(c *gin.Context, d time.Duration) {
	if d > 0 {
		c.Header("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
	}
}

// fail answers with the problem that err is, and logs what the problem does not say.
func (s *server) fail(c *gin.Context, err error) {
	p := problemOf(err)
	if p.status >= 500 {
		s.logFailure(c, err)
	}
	p.write(c)
}

// logFailure logs what went wrong here. What is known to be down was logged when it went
// down: once, not a request. Callers that left cannot fill the log with errors.
func (s *server) logFailure(c *gin.Context, err error) {
	if errors.Is(c.Request.Context().Err(), context.Canceled) {
		s.log.InfoContext(c, "caller left", "requestId", requestID(c), "route", c.FullPath(), "error", err)
		return
	}
	var known interface{ Known() bool }
	if !(errors.As(err, &known) && known.Known()) {
		s.log.ErrorContext(c, "request failed", "requestId", requestID(c), "route", c.FullPath(), "error", err)
	}
}

// problemOf is the one door through which errors leave: what it does not know leaves
// without detail.
func problemOf(err error) problem {
	var body *bodyError
	if errors.As(err, &body) {
		return body.problem
	}
	var rate *access.RateError
	switch {
	case access.ReasonOf(err) != "":
		return problem{status: http.StatusUnauthorized, name: "unauthenticated", title: "Not authenticated",
			detail: "Send a bearer token of a configured client: unexpired, with its key, audience and lifetime, over a connection with its certificate if it needs one. The server's log says what was wrong, under this request id."}
	case errors.Is(err, access.ErrForbidden):
		return problem{status: http.StatusForbidden, name: "forbidden", title: "Right missing",
			detail: "The client's configuration does not grant the right for this operation, or not to this sub, usr or key."}
	case errors.As(err, &rate):
		return problem{status: http.StatusTooManyRequests, name: "too-many-requests", title: "Too many requests", reason: "rate",
			detail: "The client calls more often than its configuration allows.", retry: max(rate.RetryAfter(), time.Second)}
	case errors.Is(err, access.ErrReplayed):
		return problem{status: http.StatusConflict, name: "token-used", title: "Token already used",
			detail: "The right is granted for one use of each token. Sign a new one, with a new jti."}
	}
	if p, ok := provisioningProblem(err); ok {
		return p
	}
	if p, ok := approvalProblem(err); ok {
		return p
	}
	if p, ok := merchantProblem(err); ok {
		return p
	}
	if p, ok := passProblem(err); ok {
		return p
	}
	if p, ok := changeProblem(err); ok {
		return p
	}
	var later interface{ RetryAfter() time.Duration }
	switch {
	case errors.As(err, &later):
		return unavailable(later.RetryAfter())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled): // a caller that left is no fault of ours
		return unavailable(time.Second)
	default:
		return problem{status: http.StatusInternalServerError, name: "internal", title: "Internal error",
			detail: "Nothing was released. The server's log says more, under this request id."}
	}
}

func unavailable(after time.Duration) problem {
	return problem{status: http.StatusServiceUnavailable, name: "unavailable", title: "Not available",
		detail: "Token, database or queue did not answer in time. Nothing was released; send the request again.",
		retry:  max(after, time.Second)}
}

// provisioningProblem translates the errors of push provisioning.
func provisioningProblem(err error) (problem, bool) {
	var field *provisioning.FieldError
	var nonce *provisioning.NonceError
	var chain *provisioning.ChainError
	var card *provisioning.CardError
	switch {
	case errors.As(err, &field):
		return malformed(field.Error()), true
	case errors.As(err, &nonce):
		return malformed(nonce.Error()), true
	case errors.As(err, &chain):
		return problem{status: http.StatusUnprocessableEntity, name: "certificate-chain", title: "Certificate chain refused",
			detail: chain.Error() + ". " + chain.Remedy(), reason: string(chain.Reason)}, true
	case errors.As(err, &card):
		return problem{status: http.StatusUnprocessableEntity, name: "card", title: "Card refused",
			detail: "The card's data do not keep to the rules, or not to those of its product; the reason says which.", reason: string(card.Reason)}, true
	case errors.Is(err, provisioning.ErrEncryptedCard):
		return problem{status: http.StatusUnprocessableEntity, name: "encrypted-card", title: "Encrypted card refused",
			detail: "It does not open, or it is not for this request. Take the key with use enc from /.well-known/jwks.json, and compare the protected header with the API description."}, true
	case errors.Is(err, provisioning.ErrMessageUsed):
		return problem{status: http.StatusConflict, name: "encrypted-card-used", title: "Encrypted card already used",
			detail: "Each jti is good for one use. Encrypt the card anew."}, true
	case errors.Is(err, provisioning.ErrWalletType):
		return problem{status: http.StatusUnprocessableEntity, name: "wallet-type", title: "Wallet type not supported",
			detail: "walletType must be APPLE_PAY."}, true
	case errors.Is(err, provisioning.ErrNonceUsed):
		return problem{status: http.StatusConflict, name: "nonce-used", title: "Nonce already used",
			detail: "Start again in the app, which gives a new nonce."}, true
	case errors.Is(err, provisioning.ErrUnknownCard):
		return problem{status: http.StatusNotFound, name: "unknown-card", title: "Unknown card",
			detail: "No card of this caller has this externalCardId."}, true
	}
	return walletProblem(err)
}

// walletProblem translates the errors about cards in wallets.
func walletProblem(err error) (problem, bool) {
	switch {
	case errors.Is(err, provisioning.ErrNotEnabled):
		return problem{status: http.StatusForbidden, name: "product-not-enabled", title: "Product not enabled",
			detail: "The tenant's enablement does not have it; GET /v1/enablement shows it."}, true
	case errors.Is(err, provisioning.ErrTransition):
		return problem{status: http.StatusConflict, name: "impossible-transition", title: "Impossible transition",
			detail: "The token cannot go from its present state to this one; GET shows what it went through."}, true
	case errors.Is(err, provisioning.ErrUnknownToken):
		return problem{status: http.StatusNotFound, name: "unknown-wallet-token", title: "Unknown wallet token",
			detail: "No wallet token of this caller has this tokenUniqueReference, or the owner is not one that it may name."}, true
	case errors.Is(err, provisioning.ErrTooManyCards):
		return problem{status: http.StatusUnprocessableEntity, name: "too-many-cards", title: "Too many cards",
			detail: "The owner has more cards than one answer holds: give cardholders a sub of their own."}, true
	default:
		return problem{}, false
	}
}

func malformed(detail string) problem {
	return problem{status: http.StatusBadRequest, name: "malformed-member", title: "Malformed member", detail: detail}
}
