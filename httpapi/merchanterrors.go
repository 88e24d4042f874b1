package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/merchant"
)

// merchantProblem translates the errors of merchant tokens.
func merchantProblem(err error) (problem, bool) {
	var field *merchant.FieldError
	var notAllowed *merchant.NotAllowedError
	var quota *merchant.QuotaError
	switch {
	case errors.As(err, &field):
		return malformed(field.Error()), true
	case errors.As(err, &notAllowed):
		return problem{status: http.StatusForbidden, name: "forbidden", title: "Value not allowed", reason: notAllowed.Member,
			detail: "The client's configuration does not allow this value of " + notAllowed.Member + "; its merchantTokens list what it may have signed."}, true
	case errors.As(err, &quota):
		return problem{status: http.StatusTooManyRequests, name: "too-many-requests", title: "Quota used up", reason: "quota", retry: quota.Wait,
			detail: "The client has had its number of tokens for this day (UTC)."}, true
	default:
		return problem{}, false
	}
}

// The numbers by which SDKs know why a token does not hold. [C]: the peer gives names for
// them and does not say when it uses which.
const (
	codeUnauthorized = 100
	codeInvalid      = 117
	codeExpired      = 118
	codeAlgorithm    = 126
	codeParsing      = 304
)

// checkDetails are what the numbers mean.
var checkDetails = map[int]string{
	codeUnauthorized: "No bearer token was sent, or one that needs a TLS client certificate came without.",
	codeInvalid:      "The token does not hold; the reason says what does not.",
	codeExpired:      "The token has expired.",
	codeAlgorithm:    "The token is not signed with the algorithm of its key.",
	codeParsing:      "The token is no JWT in the compact serialisation.",
}

// checkCode is the number for a reason.
func checkCode(reason access.Reason) int {
	switch reason {
	case access.ReasonMissing, access.ReasonScheme, access.ReasonNoCertificate:
		return codeUnauthorized
	case access.ReasonTooLarge, access.ReasonMalformed, access.ReasonDuplicateMember:
		return codeParsing
	case access.ReasonAlgorithm:
		return codeAlgorithm
	case access.ReasonExpired:
		return codeExpired
	default:
		return codeInvalid
	}
}

// claimReason is the reason of a claim that does not hold.
func claimReason(err error) string {
	var claim *merchant.ClaimError
	if errors.As(err, &claim) {
		return "claim-" + claim.Claim
	}
	return "claim"
}

// checkFailed answers checkjwt: the one 401 that says why.
func (s *server) checkFailed(c *gin.Context, err error) {
	reason := string(access.ReasonOf(err))
	var code int
	var claim *merchant.ClaimError
	switch {
	case reason != "":
		code = checkCode(access.Reason(reason))
	case errors.As(err, &claim):
		reason, code = claimReason(err), codeInvalid
	default:
		s.fail(c, err)
		return
	}
	problem{status: http.StatusUnauthorized, name: "token-refused", title: "Token refused",
		detail: checkDetails[code], reason: reason, code: code}.write(c)
}

// legacyError is an answer of the form that the proximity endpoint's clients expect.
type legacyError struct {
	status int
	text   string
	retry  time.Duration
}

// generationFailed is the documented text for what is the service's own trouble.
const generationFailed = "Internal server error during token generation"

func (e legacyError) write(c *gin.Context) {
	if e.status == http.StatusUnauthorized {
		c.Header("WWW-Authenticate", "Bearer")
	}
	retryAfter(c, e.retry)
	c.Set(outcomeKey, "proximity-"+strconv.Itoa(e.status))
	writeJSON(c, e.status, "application/json", LegacyError{Error: e.text})
	c.Abort()
}

// proximityFailed answers the proximity endpoint, and logs what the answer does not say.
func (s *server) proximityFailed(c *gin.Context, err error) {
	e := proximityError(err)
	if e.text == generationFailed {
		s.logFailure(c, err)
	}
	e.write(c)
}

// proximityError is the form's counterpart of problemOf.
func proximityError(err error) legacyError {
	var claim *merchant.ClaimError
	var rate *access.RateError
	var later interface{ RetryAfter() time.Duration }
	switch {
	case access.ReasonOf(err) != "":
		return legacyError{status: http.StatusUnauthorized, text: "Unauthorized"}
	case errors.Is(err, access.ErrForbidden):
		return legacyError{status: http.StatusForbidden, text: "The user of this token may not create an Apple proximity token (" + string(access.CreateAppleProximityToken) + ")"}
	case errors.As(err, &claim) && isBusinessClaim(claim.Claim):
		return legacyError{status: http.StatusInternalServerError, text: "The token's " + claim.Error()}
	case errors.As(err, &claim):
		return legacyError{status: http.StatusUnauthorized, text: "Unauthorized"}
	case errors.Is(err, access.ErrReplayed):
		return legacyError{status: http.StatusConflict, text: "This token has been used"}
	case errors.As(err, &rate):
		return legacyError{status: http.StatusTooManyRequests, text: "Too many requests", retry: max(rate.RetryAfter(), time.Second)}
	case errors.As(err, &later):
		return legacyError{status: http.StatusInternalServerError, text: generationFailed, retry: max(later.RetryAfter(), time.Second)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return legacyError{status: http.StatusInternalServerError, text: generationFailed, retry: time.Second}
	default:
		return legacyError{status: http.StatusInternalServerError, text: generationFailed}
	}
}

// isBusinessClaim reports whether a claim names the merchant, so that a token without it
// is valid and of no use here.
func isBusinessClaim(name string) bool { return name == "mbn" || name == "mcc" || name == "x-tid" }
