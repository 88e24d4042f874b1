package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// Problem is what kept a call from its answer. The texts are stable.
type Problem string

// The problems.
const (
	ProblemURL         Problem = "address is not an https URL that may be called"
	ProblemName        Problem = "name could not be resolved"
	ProblemAddress     Problem = "address is not public and not listed"
	ProblemConnect     Problem = "connection failed"
	ProblemCertificate Problem = "certificate not accepted"
	ProblemTLS         Problem = "TLS failed"
	ProblemTimeout     Problem = "no answer in time"
	ProblemCancelled   Problem = "cancelled"
	ProblemRedirect    Problem = "answered with a redirect, which is not followed"
	ProblemStatus      Problem = "answered with an unexpected status"
	ProblemTooLarge    Problem = "answer is too large"
	ProblemAnswer      Problem = "connection lost, or no HTTP answer"
)

// An Error is a call that had no answer, or none that was wanted. It holds no path,
// no query, and nothing that the peer sent but the number of its status.
type Error struct {
	Host    string // as the address has it, with the port if it has one
	Problem Problem
	Status  int    // for ProblemRedirect and ProblemStatus
	Detail  string // more about the problem, in our own words or the system's
}

// Error names the host and the problem.
func (e *Error) Error() string {
	s := fmt.Sprintf("call to %q: %s", e.Host, e.Problem)
	if e.Status != 0 {
		s += fmt.Sprintf(" (%d)", e.Status)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// newError finds the problem in an error of net/http. Its text is not taken over: it
// holds the address with its query, and at times what the peer sent.
func newError(ctx context.Context, host string, err error) *Error {
	e := &Error{Host: host}
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var alert *net.OpError
	var record tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	var code syscall.Errno
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Problem = ProblemCancelled
	case errors.Is(err, errAddress):
		e.Problem = ProblemAddress
	case ctx.Err() != nil, errors.As(err, &timeout) && timeout.Timeout():
		e.Problem = ProblemTimeout
	case errors.As(err, &name):
		e.Problem = ProblemName
	case errors.As(err, &certificate):
		e.Problem, e.Detail = ProblemCertificate, certificateDetail(certificate.Err)
	case errors.As(err, &alert) && (alert.Op == "remote error" || alert.Op == "local error"): // as crypto/tls reports alerts
		e.Problem, e.Detail = ProblemTLS, alert.Err.Error()
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		e.Problem, e.Detail = ProblemTLS, "the peer does not speak it"
	case errors.As(err, &code):
		e.Problem, e.Detail = ProblemConnect, code.Error()
	default:
		e.Problem = ProblemAnswer
	}
	return e
}

// certificateDetail says what is wrong with a certificate, without the names in it.
func certificateDetail(err error) string {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "issued by an unknown authority"
	case errors.As(err, new(x509.HostnameError)):
		return "issued to another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "expired or not yet valid"
	}
	return ""
}

// hostOf is the host of an address for an Error.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
