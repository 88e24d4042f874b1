// Package keycert makes self-signed certificates for keys in a token, and requests for others,
// with their record, as
// a command and development mode need them.
package keycert

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// Issue makes a certificate and gives it in PEM. It is on record, with the key's name, when
// it is given.
func Issue(ctx context.Context, recorder record.Recorder, gate *signer.Gate, c signer.SelfSigned) ([]byte, error) {
	ticket, err := recorder.Open(record.Intent{Operation: record.CertifyKey, Refs: map[string]string{"key": c.Key}})
	if err != nil {
		return nil, err
	}
	held, err := gate.SelfSign(ctx, ticket, c)
	if err != nil {
		failed := record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}
		return nil, errors.Join(err, record.Fail(ctx, recorder, ticket, failed))
	}
	receipt, err := record.Conclude(ctx, recorder, ticket, record.Done(held.Digest()))
	if err != nil {
		return nil, err
	}
	der, err := held.Release(receipt)
	if err != nil {
		return nil, fmt.Errorf("certify key %s: %w", c.Key, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// Request makes a request for a certificate and gives it in PEM. It is on record, with the
// key's name, when it is given.
func Request(ctx context.Context, recorder record.Recorder, gate *signer.Gate, r signer.RequestFor) ([]byte, error) {
	ticket, err := recorder.Open(record.Intent{Operation: record.RequestCertificate, Refs: map[string]string{"key": r.Key}})
	if err != nil {
		return nil, err
	}
	held, err := gate.RequestCertificate(ctx, ticket, r)
	if err != nil {
		failed := record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}
		return nil, errors.Join(err, record.Fail(ctx, recorder, ticket, failed))
	}
	receipt, err := record.Conclude(ctx, recorder, ticket, record.Done(held.Digest()))
	if err != nil {
		return nil, err
	}
	der, err := held.Release(receipt)
	if err != nil {
		return nil, fmt.Errorf("request certificate for %s: %w", r.Key, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
