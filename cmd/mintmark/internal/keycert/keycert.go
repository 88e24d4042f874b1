// Package keycert makes self-signed certificates for keys in a token, and requests for others,
// with their record, as a command and development mode need them.
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
	der, err := recorded(ctx, recorder, record.CertifyKey, "certify key "+c.Key, c.Key, func(t *record.Ticket) (record.Held[[]byte], error) {
		return gate.SelfSign(ctx, t, c)
	})
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// Request makes a request for a certificate and gives it in PEM. It is on record, with the
// key's name, when it is given.
func Request(ctx context.Context, recorder record.Recorder, gate *signer.Gate, r signer.RequestFor) ([]byte, error) {
	der, err := recorded(ctx, recorder, record.RequestCertificate, "request certificate for "+r.Key, r.Key, func(t *record.Ticket) (record.Held[[]byte], error) {
		return gate.RequestCertificate(ctx, t, r)
	})
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// recorded has a key make something, and gives it when it is on record. what says so in an
// error.
func recorded(ctx context.Context, recorder record.Recorder, op record.Operation, what, key string,
	sign func(*record.Ticket) (record.Held[[]byte], error),
) ([]byte, error) {
	ticket, err := recorder.Open(record.Intent{Operation: op, Refs: map[string]string{"key": key}})
	if err != nil {
		return nil, err
	}
	held, err := sign(ticket)
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
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return der, nil
}
