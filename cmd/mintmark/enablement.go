package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"

	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// enablements is what the change of an enablement needs; *provisioning.Service is it.
type enablements interface {
	CheckEnablement(tenant string, rules []provisioning.EnablementRule) error
	httpapi.EnablementKeeper
}

// enablementKind is the change of which of a tenant's cards may be provisioned, whole: what
// another change has put there since it was proposed is replaced.
type enablementKind struct {
	enablements
	environment string
}

// enablementChange is its document: what PUT /enablement takes, and the tenant.
type enablementChange struct {
	Tenant string `json:"tenant"`
	httpapi.EnablementRules
}

// Name is the kind's.
func (enablementKind) Name() string { return "enablement" }

// Canonical gives the document without what JSON leaves open.
func (k enablementKind) Canonical(_ context.Context, document []byte) ([]byte, error) {
	c, err := k.read(document)
	if err != nil {
		return nil, err
	}
	return json.Marshal(c, json.Deterministic(true))
}

// Apply puts the rules in place of those that are there. On record it goes by the document's
// digest, which stands with the approval too.
func (k enablementKind) Apply(ctx context.Context, document []byte) error {
	c, err := k.read(document)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(document)
	who := provisioning.Caller{Owner: provisioning.Owner{Tenant: c.Tenant}, RequestID: "change-" + hex.EncodeToString(sum[:])}
	_, err = k.PutEnablement(ctx, who, c.Rules)
	if errors.Is(err, provisioning.ErrEnablementChanged) {
		return errors.Join(err, &approval.DocumentError{What: "another change was made at the same time; look at what is there now"})
	}
	return err
}

// read gives a document of which the rules can be put as things stand; a *approval.DocumentError
// if not. The products are those of this process, which may be another than the proposal's.
func (k enablementKind) read(document []byte) (enablementChange, error) {
	var c enablementChange
	if json.Unmarshal(document, &c, json.RejectUnknownMembers(true)) != nil || c.Rules == nil {
		return c, &approval.DocumentError{What: `send {"tenant", "environment", "rules": [{"product"?, "binFrom"?, "binTo"?, "percentage"}]}`}
	}
	if c.Environment != k.environment {
		return c, &approval.DocumentError{What: "this service is for " + k.environment + "; environment must say so"}
	}
	if err := k.CheckEnablement(c.Tenant, c.Rules); err != nil {
		return c, &approval.DocumentError{What: err.Error()}
	}
	return c, nil
}

// enablementKeeper is who changes enablements for the admin listener: nobody alone, where it
// takes two people.
func (s *service) enablementKeeper() httpapi.EnablementKeeper {
	if s.plan.cfg.DualControl.Required {
		return approvedOnly{s.provisioning, s.audit}
	}
	return s.provisioning
}

// approvedOnly refuses to change an enablement for one person, on record.
type approvedOnly struct {
	enablements
	refusals record.Recorder
}

// PutEnablement is approval.ErrRequired, or a *provisioning.FieldError of what could not be
// approved either.
func (a approvedOnly) PutEnablement(ctx context.Context, who provisioning.Caller, rules []provisioning.EnablementRule) (provisioning.Enablement, error) {
	if err := a.CheckEnablement(who.Tenant, rules); err != nil {
		return provisioning.Enablement{}, err
	}
	in := record.Intent{Operation: record.PutEnablement, Tenant: who.Tenant, RequestID: who.RequestID}
	return provisioning.Enablement{}, errors.Join(approval.ErrRequired, a.refusals.Refuse(ctx, in, "approval-required"))
}
