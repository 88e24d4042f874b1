package signer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// TAVVersion is the version of a Mastercard Tokenization Authentication Value.
type TAVVersion string

// The versions in use. Version 2 is absent: its signed string is not public.
const (
	TAVv3 TAVVersion = "3"
	TAVv4 TAVVersion = "4"
)

// MaxTAVLife is how far ahead a TAV's dataValidUntilTimestamp may lie.
const MaxTAVLife = 30 * 24 * time.Hour

// TAV is what a Tokenization Authentication Value vouches for.
type TAV struct {
	Version    TAVVersion
	KeyAlias   string      // version 4 only: the name under which the network knows the key, unless the key's entry says it
	PAN        secret.PAN  // accountNumber
	Expiry     secret.Text // accountExpiry, MMYY
	ValidUntil time.Time   // dataValidUntilTimestamp, whole seconds
}

// tavJSON is the value in the order the samples have it. [B]: one public source.
type tavJSON struct {
	Version               TAVVersion `json:"version"`
	KeyAlias              string     `json:"keyAlias,omitempty"`
	SignatureAlgorithm    string     `json:"signatureAlgorithm"`
	DataValidUntil        string     `json:"dataValidUntilTimestamp"`
	IncludedFieldsInOrder string     `json:"includedFieldsInOrder"`
	Signature             string     `json:"signature"` // Base64
}

// SignTAV makes Mastercard's activation data: the UTF-8 JSON of a TAV signed with
// RSASSA-PKCS1-v1_5 and SHA-256. The order of the signed fields of version 3 is [B]
// (one public source), the way version 4 joins them [C] (inferred from version 3).
//
// A TAV lets its holder verify guesses of the PAN: it is never logged, cached or
// stored; its digest may be, since a guess cannot be turned into a signature.
func (g *Gate) SignTAV(ctx context.Context, t *record.Ticket, v TAV) (record.Held[[]byte], error) {
	ctx, at := span.Start(ctx, "gate.sign-tav")
	defer at.End()
	var none record.Held[[]byte]
	if err := useFor(t, "tav", record.SignCard, record.ActivationData); err != nil {
		return none, err
	}
	until := v.ValidUntil.UTC().Format("2006-01-02T15:04:05Z")
	message, order, err := v.signed(until)
	defer secret.Wipe(message)
	if err != nil {
		return none, fmt.Errorf("make TAV: %w", err)
	}
	sig, known, err := g.signRS256(ctx, hsm.TAVSigning, message)
	if err != nil {
		return none, fmt.Errorf("sign TAV: %w", err)
	}
	alias := ""
	if v.Version == TAVv4 {
		alias = cmp.Or(known, v.KeyAlias)
	}
	out, err := json.Marshal(tavJSON{
		Version:               v.Version,
		KeyAlias:              alias,
		SignatureAlgorithm:    "RSA-SHA256",
		DataValidUntil:        until,
		IncludedFieldsInOrder: order,
		Signature:             base64.StdEncoding.EncodeToString(sig),
	})
	if err != nil {
		return none, fmt.Errorf("encode TAV: %w", err)
	}
	return record.Hold(t, "activationData", out, out), nil
}

// signed gives the string that is signed and the names of its fields in order.
func (v TAV) signed(until string) (message []byte, order string, err error) {
	var account []byte // PAN|MMYY
	v.PAN.Reveal(func(pan []byte) {
		v.Expiry.Reveal(func(expiry []byte) {
			if len(pan) == 0 || len(expiry) != 4 {
				err = errors.New("account number or expiry is missing")
				return
			}
			account = bytes.Join([][]byte{pan, expiry}, []byte("|"))
		})
	})
	defer secret.Wipe(account)
	if err != nil {
		return nil, "", err
	}
	switch v.Version {
	case TAVv3:
		return append(append(bytes.Clone(account), '|'), until...), "accountNumber|accountExpiry|dataValidUntilTimestamp", nil
	case TAVv4:
		if v.KeyAlias == "" {
			return nil, "", errors.New("version 4 needs a keyAlias")
		}
		return append([]byte(until+"|"), account...), "dataValidUntilTimestamp|accountNumber|accountExpiry", nil
	default:
		return nil, "", fmt.Errorf("version %q is not supported", v.Version)
	}
}
