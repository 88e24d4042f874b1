package httpapi

import (
	"context"
	"errors"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// Callers knows who may call; *access.Verifier is it. Its errors are those of the
// Verifier's methods.
type Callers interface {
	Authenticate(ctx context.Context, p access.Proof) (access.Caller, error)
	Admit(c access.Caller) error
}

// Refusals records that a caller was refused before the domain was asked. An error means
// it could not be recorded; the refusal stands.
type Refusals interface {
	Refuse(ctx context.Context, in record.Intent, reason string) error
}

// authorize gives the caller if it may use the right; otherwise it has answered with a
// problem.
func (s *server) authorize(c *gin.Context, op record.Operation, right access.Right) (access.Caller, bool) {
	who, err := s.authenticate(c, op)
	if err == nil {
		err = s.permit(c, op, who, right)
	}
	if err != nil {
		s.fail(c, err)
		return access.Caller{}, false
	}
	return who, true
}

// authenticate gives the caller, who has not called too often. A refusal is on record when
// it returns.
func (s *server) authenticate(c *gin.Context, op record.Operation) (access.Caller, error) {
	_, proving := span.Start(c.Request.Context(), "authenticate")
	who, err := s.prove(c)
	proving.End()
	if err != nil {
		s.unauthenticated(c, op, err)
		return access.Caller{}, err
	}
	c.Set(callerKey, who)
	operating(c, op)
	err = s.cfg.Callers.Admit(who)
	switch {
	case err == nil:
		return who, nil
	case access.ReasonOf(err) != "": // the client was taken out of the configuration just now
		s.unauthenticated(c, op, err)
	default:
		s.refuse(c, op, who, "rate")
	}
	return access.Caller{}, err
}

// prove looks at what the caller proves itself with: its headers, and the certificate of
// its connection where the group's certificates count. Headers in which a gateway forwards
// a certificate prove nothing.
func (s *server) prove(c *gin.Context) (access.Caller, error) {
	proof := access.Proof{Authorization: c.Request.Header.Values("Authorization")}
	mode := s.cfg.Certificates[groupAt(c.FullPath())]
	if (mode == CertificatesOptional || mode == CertificatesRequired) && c.Request.TLS != nil {
		proof.Certificates = c.Request.TLS.PeerCertificates
	}
	if mode == CertificatesRequired && len(proof.Certificates) == 0 {
		return access.Caller{}, access.AuthenticationError{Reason: access.ReasonNoCertificate}
	}
	who, err := s.cfg.Callers.Authenticate(c.Request.Context(), proof)
	// The handshake took any certificate there is. One that nothing asks for is as good as
	// none: anybody can make it.
	if err == nil && mode == CertificatesRequired && !who.Certified {
		return access.Caller{}, access.AuthenticationError{Reason: access.ReasonUnknownCertificate}
	}
	return who, err
}

// permit reports why the caller may not use the right, if so. A refusal is on record when
// it returns.
func (s *server) permit(c *gin.Context, op record.Operation, who access.Caller, right access.Right) error {
	err := who.May(right)
	switch {
	case err == nil:
	case access.ReasonOf(err) != "":
		s.unauthenticated(c, op, err)
	default:
		s.refuse(c, op, who, "forbidden")
	}
	return err
}

// unauthenticated counts, logs and records a caller that is not authenticated: why, and
// nothing of what was sent. Keys that cannot be had at the moment are no refusal.
func (s *server) unauthenticated(c *gin.Context, op record.Operation, err error) {
	reason := string(access.ReasonOf(err))
	if reason == "" {
		return
	}
	s.cfg.Metrics.refused(reason)
	s.log.WarnContext(c, "caller not authenticated", "requestId", requestID(c), "reason", reason)
	s.recordRefusal(c, record.Intent{Operation: op, RequestID: requestID(c)}, reason)
}

// refuse records that a known caller was refused.
func (s *server) refuse(c *gin.Context, op record.Operation, who access.Caller, reason string) {
	s.recordRefusal(c, record.Intent{Operation: op, Tenant: who.Tenant, Issuer: who.Issuer, Subject: secret.Reference(who.Subject), RequestID: requestID(c)}, reason)
}

func (s *server) recordRefusal(c *gin.Context, in record.Intent, reason string) {
	if err := s.cfg.Refusals.Refuse(c.Request.Context(), in, reason); err != nil {
		s.log.ErrorContext(c, "refusal not recorded", "requestId", requestID(c), "error", err)
	}
}

// claims are what the caller's request uses up: its token, where the right is granted for
// single use.
func (s *server) claims(who access.Caller, right access.Right) []record.Claim {
	use := who.Use(right, s.cfg.Now(), s.cfg.ClaimLease)
	if use == nil {
		return nil
	}
	return []record.Claim{use}
}

// failed answers with the domain's error, and has it on record if it is a token that was used
// before.
func (s *server) failed(c *gin.Context, op record.Operation, who access.Caller, err error) {
	s.replayed(c, op, who, err)
	s.fail(c, err)
}

// replayed records that the domain's error is a token that was used before.
func (s *server) replayed(c *gin.Context, op record.Operation, who access.Caller, err error) {
	if errors.Is(err, access.ErrReplayed) {
		s.refuse(c, op, who, "token-used")
	}
}
