package passes

import (
	"context"
	"errors"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/webservice"
)

// Personalize makes a pass somebody's own: it keeps what the device sent, for the issuer
// to read in the document, and gives the signature that the device asked for.
//
// The call is not authenticated, and what it signs comes from outside and gets the form of
// a pass's signature. So only for a pass that is served with personalization.json, only
// once, and nothing that could be a manifest.
//
// Errors: ErrUnauthorized for a pass that there is not, or that asks for nothing;
// ErrPersonalized; passkit.ErrPersonalizationToken; or one with RetryAfter.
func (s *Service) Personalize(ctx context.Context, id ID, requestID string, p webservice.Personalization) ([]byte, error) {
	settings, _, err := s.setting(id.TypeID)
	if err != nil {
		return nil, ErrUnauthorized
	}
	asked := Caller{RequestID: requestID}.intent(record.PersonalizePass, id, nil)
	token := []byte(p.Token)
	if err := passkit.CheckPersonalizationToken(token); err != nil {
		return nil, errors.Join(err, s.cfg.Recorder.Refuse(ctx, asked, "not-a-token"))
	}
	row, shared, err := s.cfg.Rows.PassOf(ctx, id)
	if err != nil {
		if errors.Is(err, ErrUnknown) {
			err = ErrUnauthorized
		}
		return nil, err
	}
	a, err := s.aboutRow(shared)
	if err != nil {
		return nil, err
	}
	if !a.personalizable(row) {
		return nil, ErrUnauthorized
	}
	if err := s.cfg.Gate.Ready(record.PersonalizePass); err != nil {
		return nil, err
	}
	in := Caller{RequestID: requestID}.intent(record.PersonalizePass, id, map[string]string{"key": a.identity.Key})
	now := s.cfg.Now()
	claim := &PersonalClaim{Pass: row, Info: p.Info, Push: settings.Push, Now: now, Until: now.Add(s.cfg.Lease)}
	// A crash from here on leaves a claim that ends with its lease.
	ticket, err := s.cfg.Recorder.Begin(ctx, in, claim)
	if errors.Is(err, ErrPersonalized) {
		err = errors.Join(err, s.cfg.Recorder.Refuse(ctx, asked, "personalized"))
	}
	if err != nil {
		return nil, err
	}
	working, cancel := record.Working(ctx)
	defer cancel()
	held, err := s.cfg.Gate.SignPersonalization(working, ticket, a.identity, token, now)
	if err != nil {
		res := record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}
		return nil, errors.Join(err, record.Fail(ctx, s.cfg.Recorder, ticket, res, claim.End(false)))
	}
	receipt, err := record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(held.Digest()), claim.End(true))
	if err != nil {
		if record.Refused(err) { // another has had it after our lease
			res := record.Result{Outcome: record.OutcomeRefused, Reason: "claim-lost"}
			err = errors.Join(err, record.Fail(ctx, s.cfg.Recorder, ticket, res))
		}
		return nil, err
	}
	return held.Release(receipt)
}

// personalizable reports whether a pass was issued with personalization.json.
func (a about) personalizable(row PassRow) bool {
	_, own := row.Files[passkit.FilePersonalization]
	_, shared := a.row.Files[passkit.FilePersonalization]
	return own || shared
}
