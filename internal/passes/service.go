package passes

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/signer"
)

// Gate is what passes asks of the keys; *signer.Gate is it. Errors with a method
// RetryAfter say that a later try may succeed; nothing is retried here.
type Gate interface {
	// Ready reports, without asking any token, whether an operation has a chance.
	Ready(op record.Operation) error
	SignPass(ctx context.Context, t *record.Ticket, id signer.PassIdentity, b *passkit.Bundle, now time.Time) (record.Held[[]byte], error)
	SignPersonalization(ctx context.Context, t *record.Ticket, id signer.PassIdentity, token []byte, now time.Time) (record.Held[[]byte], error)
	// PushKey gives a pass key for the handshakes of a client.
	PushKey(name string, pub crypto.PublicKey) crypto.Signer
}

var _ Gate = (*signer.Gate)(nil)

// Observer counts. Its methods must not block.
type Observer interface {
	// PassServed counts a bundle that was served: kept, or signed for it.
	PassServed(kept bool)
	// PassPush counts what came of a push.
	PassPush(outcome string)
	// PassPushStopped says whether the push service refuses a type's certificate.
	PassPushStopped(passType string, stopped bool)
	// PassDeviceLog counts a line that a device told.
	PassDeviceLog(kind string)
}

// Config says what a Service works with.
type Config struct {
	Recorder record.Recorder
	Gate     Gate
	Rows     Rows
	Devices  Devices
	Observer Observer
	Now      func() time.Time
	// BundleCache and FileCache bound what is kept of signed bundles and of files, in bytes.
	BundleCache, FileCache int64
	// Lease is how long a personalisation stays claimed by a request that never ends.
	Lease time.Duration
	// Limits bound what is kept.
	Limits Limits
}

// Service serves all tenants' passes. It is safe for concurrent use.
type Service struct {
	cfg      Config
	settings atomic.Pointer[Settings]
	bundles  *cache // signed, by version
	files    *cache // by SHA-256
}

// New gives the service, or all that is wrong with the settings.
func New(cfg Config, settings Settings) (*Service, error) {
	if cfg.Recorder == nil || cfg.Gate == nil || cfg.Rows == nil || cfg.Devices == nil || cfg.Observer == nil || cfg.Now == nil || cfg.Lease <= 0 {
		return nil, errors.New("passes: recorder, gate, rows, devices, observer, now and lease are all needed")
	}
	s := &Service{cfg: cfg, bundles: newCache(cfg.BundleCache), files: newCache(cfg.FileCache)}
	return s, s.Use(settings)
}

// Use has the service go by other settings from the next request on. Settings with
// something wrong are refused, and the old ones stay.
func (s *Service) Use(settings Settings) error {
	if err := settings.check(); err != nil {
		return fmt.Errorf("passes: %w", err)
	}
	s.settings.Store(&settings)
	return nil
}

// Settings are those that the service goes by.
func (s *Service) Settings() Settings { return *s.settings.Load() }

// Caller is who asks, and under which request id.
type Caller struct{ Issuer, Subject, RequestID string }

func (c Caller) intent(op record.Operation, id ID, refs map[string]string) record.Intent {
	in := record.Intent{Operation: op, Tenant: id.Tenant, Issuer: c.Issuer, Subject: c.Subject, RequestID: c.RequestID, Refs: map[string]string{}}
	if id.Type != "" {
		in.Refs["passType"] = id.Type
	}
	if id.Serial != "" {
		in.Refs["serial"] = Reference(id.Serial)
	}
	for name, value := range refs {
		in.Refs[name] = value
	}
	return in
}

// Reference is a serial number as it may stand in the record: one that looks like a card
// number, which it has no reason to be, does not.
func Reference(serial string) string {
	if secret.LooksLikePAN(serial) {
		return "withheld"
	}
	return serial
}

// write records an operation that uses no key, with its change, in one transaction.
func (s *Service) write(ctx context.Context, in record.Intent, change record.Change) error {
	t, err := s.cfg.Recorder.Open(in)
	if err != nil {
		return err
	}
	_, err = record.Conclude(ctx, s.cfg.Recorder, t, record.Done(), change)
	var quota *QuotaError
	switch {
	case errors.Is(err, ErrPrecondition):
		err = errors.Join(err, s.cfg.Recorder.Refuse(ctx, in, "precondition"))
	case errors.As(err, &quota):
		err = errors.Join(err, s.cfg.Recorder.Refuse(ctx, in, "quota"))
	}
	return err
}

// setting gives a pass type that the configuration names, or ErrUnknown.
func (s *Service) setting(id TypeID) (*Settings, TypeSetting, error) {
	all := s.settings.Load()
	t, ok := all.Types[id]
	if !ok {
		return nil, TypeSetting{}, ErrUnknown
	}
	return all, t, nil
}

// identity is what passes of a type are signed with: its own certificate, or the keyring's.
func (t TypeSetting) identity(row TypeRow) (signer.PassIdentity, error) {
	chain := t.Chain
	if row.Certificate != "" {
		var err error
		if chain, err = passkit.ParseCertificates([]byte(row.Certificate)); err != nil {
			return signer.PassIdentity{}, fmt.Errorf("read certificate of pass type: %w", err)
		}
	}
	id := signer.PassIdentity{Key: t.Key}
	if len(chain) > 0 {
		id.Certificate = chain[0]
		id.Intermediates = append(append([]*x509.Certificate{}, chain[1:]...), passkit.AppleIntermediates()...)
	}
	return id, nil
}
