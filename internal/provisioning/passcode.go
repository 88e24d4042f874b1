package provisioning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/signer"
)

// PasscodeRules bound one-time passcodes.
type PasscodeRules struct {
	Digits   int           // signer.MinPasscodeDigits to signer.MaxPasscodeDigits
	Attempts int           // at one passcode
	Life     time.Duration // until it is of no use
	PerHour  int           // how many may be sent for one card of an owner within an hour
}

// DefaultPasscodeRules are the rules unless configured.
func DefaultPasscodeRules() PasscodeRules {
	return PasscodeRules{Digits: 6, Attempts: 3, Life: 5 * time.Minute, PerHour: 5}
}

// Check reports what is wrong with the rules.
func (r PasscodeRules) Check() error {
	var wrong []error
	if r.Digits < signer.MinPasscodeDigits || r.Digits > signer.MaxPasscodeDigits {
		wrong = append(wrong, fmt.Errorf("digits must be %d to %d", signer.MinPasscodeDigits, signer.MaxPasscodeDigits))
	}
	if r.Attempts < 1 || r.Attempts > 10 {
		wrong = append(wrong, errors.New("attempts must be 1 to 10"))
	}
	if r.Life < time.Second || r.Life > time.Hour {
		wrong = append(wrong, errors.New("life must be 1s to 1h"))
	}
	if r.PerHour < 1 || r.PerHour > 100 {
		wrong = append(wrong, errors.New("perHour must be 1 to 100"))
	}
	return errors.Join(wrong...)
}

// The errors of passcodes.
var (
	// ErrUnknownPasscode is returned for a passcode that does not exist or is not the caller's:
	// the two are not told apart.
	ErrUnknownPasscode = errors.New("unknown passcode")
	// ErrPasscodeUsed is returned for a passcode that has been verified.
	ErrPasscodeUsed = errors.New("passcode already used")
	// ErrPasscodeSpent is returned for a passcode whose attempts are used up, or that gave way
	// to a newer one.
	ErrPasscodeSpent = errors.New("no attempts left")
	// ErrPasscodeExpired is returned for a passcode whose life is over.
	ErrPasscodeExpired = errors.New("passcode expired")
	// ErrStatement is returned for a statement that does not hold where one is needed.
	ErrStatement = errors.New("statement refused")
)

// A TooManyPasscodesError is returned when a card has had its passcodes for the hour.
type TooManyPasscodesError struct{ After time.Duration }

// Error says so.
func (e *TooManyPasscodesError) Error() string { return "too many passcodes for this card" }

// A PasscodeRow is a passcode as it is kept: nothing of it says what its digits are to
// someone who has not the token. As a record.Change it writes itself, and has the owner's
// passcodes for the card that were not verified give way; *TooManyPasscodesError if there were
// too many in the hour before.
type PasscodeRow struct {
	ID       string
	Owner    Owner
	Card     []byte    // the card's look-up value
	Device   Ref       // for which device it was asked; zero: any
	Channel  string    // channelText of where it was sent
	Since    time.Time // since when the channel is proved to be the owner's; zero: not proved
	MAC      signer.PasscodeMAC
	Attempts int // left
	Created  time.Time
	Until    time.Time
	Verified time.Time // zero: not yet

	PerHour int // not kept: how many there may be within an hour
}

// StateSHA256 is the SHA-256, in hex, of what the row says from its beginning to its end. It
// stands in the entry, so that the row cannot be changed unseen.
func (r PasscodeRow) StateSHA256() string {
	return stateSHA256("passcode", r.ID, r.Owner.Tenant, r.Owner.Issuer, r.Owner.Subject, string(r.Card), string(r.Device[:]),
		r.Channel, timeText(r.Since), r.MAC.Key, string(r.MAC.MAC), timeText(r.Created), timeText(r.Until))
}

// IsChange marks PasscodeRow as a record.Change.
func (PasscodeRow) IsChange() {}

// A PasscodeAttempt takes one of a passcode's attempts, before it is compared with anything,
// and loads the passcode. ErrUnknownPasscode, ErrPasscodeUsed, ErrPasscodeExpired or
// ErrPasscodeSpent if there is none to take. What was taken stays taken, whatever comes of it:
// there is nothing to give back to a crash.
type PasscodeAttempt struct {
	Owner    Owner
	AnyOwner bool // any owner of the tenant
	ID       string
	Now      time.Time

	Row PasscodeRow // set when the attempt was taken
}

// IsChange marks PasscodeAttempt as a record.Change.
func (*PasscodeAttempt) IsChange() {}

// A PasscodeVerified is the change that marks a passcode as verified; ErrPasscodeUsed if it
// is.
type PasscodeVerified struct {
	Tenant, ID string
	At         time.Time
}

// IsChange marks PasscodeVerified as a record.Change.
func (PasscodeVerified) IsChange() {}

// Passcodes keeps passcodes.
type Passcodes interface {
	// VerifiedPasscodes gives those of the passcodes called ids that were verified for a card
	// and its owner.
	VerifiedPasscodes(ctx context.Context, owner Owner, card []byte, ids []string) ([]PasscodeRow, error)
}

// PasscodeRequest asks for a passcode to be sent.
type PasscodeRequest struct {
	ExternalCardID string
	Owner          *Owner // of a card that is not in the vault; nil for one that is
	DeviceID       string // may be empty
	ChannelID      string // where it is to go, by the issuer's name
	// Statement proves since when the channel is the owner's. Without one the passcode can be
	// verified, and fulfils no step: its channel is not known to be tenured.
	Statement string
}

// Sent says what was sent.
type Sent struct {
	ID       string
	Until    time.Time
	Attempts int
}

// SendPasscode draws a passcode and has it delivered through the outbox. What it is stands
// nowhere but sealed in the outbox: it is kept as a token HMAC.
//
// Errors: *FieldError; ErrNoConnector; ErrUnknownCard; ErrStatement; *TooManyPasscodesError;
// or one with RetryAfter.
func (s *Service) SendPasscode(ctx context.Context, who Caller, req PasscodeRequest) (Sent, error) {
	if err := errors.Join(checkExternalCardID(req.ExternalCardID), checkOwner(req.Owner), checkDeviceID(req.DeviceID), needIdentifier("channelId", req.ChannelID)); err != nil {
		return Sent{}, err
	}
	if s.cfg.Connector == nil {
		return Sent{}, ErrNoConnector
	}
	if err := s.cfg.Gate.Ready(record.SendPasscode); err != nil {
		return Sent{}, err
	}
	ticket, err := who.Claims.Begin(ctx, s.cfg.Recorder, who.intent(record.SendPasscode, nil))
	if err != nil {
		return Sent{}, err
	}
	row, notice, err := s.drawPasscode(ctx, ticket, who, req)
	if err != nil {
		return Sent{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	result := record.Done()
	result.Refs = map[string]string{"passcode": row.ID, "stateSha256": row.StateSHA256(), "notice": notice.ID}
	_, err = record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true, row, notice)...)
	if record.Refused(err) {
		return Sent{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	if err != nil {
		return Sent{}, err
	}
	return Sent{ID: row.ID, Until: row.Until, Attempts: row.Attempts}, nil
}

// drawPasscode makes a passcode's row and the notice that brings it to the cardholder.
func (s *Service) drawPasscode(ctx context.Context, t *record.Ticket, who Caller, req PasscodeRequest) (PasscodeRow, Notice, error) {
	ctx, cancel := record.Working(ctx)
	defer cancel()
	card, err := s.cardOf(ctx, t, who, req.ExternalCardID, req.Owner)
	if err != nil {
		return PasscodeRow{}, Notice{}, err
	}
	now, rules := s.cfg.Now().Truncate(time.Millisecond), s.cfg.Passcodes
	tenant := card.owner.Tenant
	row := PasscodeRow{
		ID: uuid.NewString(), Owner: card.owner, Card: card.lookup, Device: deviceRef(tenant, req.DeviceID),
		Channel: channelText(tenant, req.ChannelID), Attempts: rules.Attempts, Created: now, Until: now.Add(rules.Life), PerHour: rules.PerHour,
	}
	if req.Statement != "" {
		st, ok := s.cfg.Statements.verify(req.Statement, about{owner: card.owner, externalCardID: req.ExternalCardID, deviceID: req.DeviceID, now: now})
		if !ok || st.Channel == nil || st.Channel.ChannelID != req.ChannelID {
			return PasscodeRow{}, Notice{}, ErrStatement
		}
		row.Since = st.Channel.Since
	}
	code, err := s.cfg.Gate.DrawPasscode(ctx, t, rules.Digits)
	defer code.Wipe()
	if err != nil {
		return PasscodeRow{}, Notice{}, err
	}
	if row.MAC, err = s.cfg.Gate.PasscodeMAC(ctx, t, "", tenant, row.ID, code); err != nil {
		return PasscodeRow{}, Notice{}, err
	}
	body, err := passcodeBody(row, req, code)
	if err != nil {
		return PasscodeRow{}, Notice{}, err
	}
	notice, err := s.notice(ctx, t, Notice{ID: uuid.NewString(), Tenant: tenant, Kind: PasscodeNotice, Until: row.Until}, body)
	return row, notice, err
}

// passcodeBody is what the notice's receiver reads. The caller overwrites it.
func passcodeBody(row PasscodeRow, req PasscodeRequest, code secret.Text) (body []byte, err error) {
	code.Reveal(func(digits []byte) {
		quoted := make([]byte, 0, len(digits)+2) // grows nowhere: what it left would not be overwritten
		quoted = append(append(append(quoted, '"'), digits...), '"')
		defer secret.Wipe(quoted)
		body, err = json.Marshal(struct {
			Issuer         string         `json:"iss"`
			Subject        string         `json:"sub"`
			ExternalCardID string         `json:"externalCardId"`
			ChannelID      string         `json:"channelId"`
			Passcode       jsontext.Value `json:"passcode"`
			ExpiresAt      time.Time      `json:"expiresAt"`
		}{row.Owner.Issuer, row.Owner.Subject, req.ExternalCardID, req.ChannelID, quoted, row.Until.UTC().Truncate(time.Second)})
	})
	return body, err
}

// Verification is what came of an attempt.
type Verification struct {
	Verified     bool
	AttemptsLeft int
}

// VerifyPasscode takes one of a passcode's attempts and compares.
//
// Errors: *FieldError; ErrUnknownPasscode, ErrPasscodeUsed, ErrPasscodeExpired and
// ErrPasscodeSpent; or one with RetryAfter, after which the attempt may be gone.
func (s *Service) VerifyPasscode(ctx context.Context, who Caller, id string, code secret.Text) (Verification, error) {
	if !isPasscodeID(id) {
		return Verification{}, ErrUnknownPasscode
	}
	if !isPasscode(code) {
		return Verification{}, &FieldError{Member: "passcode", Problem: fmt.Sprintf("must have %d to %d digits", signer.MinPasscodeDigits, signer.MaxPasscodeDigits)}
	}
	if err := s.cfg.Gate.Ready(record.VerifyPasscode); err != nil {
		return Verification{}, err
	}
	// Transaction 1: the attempt is gone, before anything is compared. Whoever asks at the
	// same time, in this process or another, takes another one.
	attempt := &PasscodeAttempt{Owner: who.Owner, AnyOwner: who.AnyOwner, ID: id, Now: s.cfg.Now()}
	intent := who.intent(record.VerifyPasscode, map[string]string{"passcode": id})
	ticket, err := s.cfg.Recorder.Begin(ctx, intent, who.Claims.Take(attempt)...)
	for _, refused := range []error{ErrUnknownPasscode, ErrPasscodeUsed, ErrPasscodeExpired, ErrPasscodeSpent} {
		if errors.Is(err, refused) {
			return Verification{}, refusedWith(ctx, s.cfg.Recorder, intent, refused)
		}
	}
	if err != nil {
		return Verification{}, err
	}
	row := attempt.Row
	work, cancel := record.Working(ctx)
	defer cancel()
	mac, err := s.cfg.Gate.PasscodeMAC(work, ticket, row.MAC.Key, row.Owner.Tenant, id, code)
	if err != nil {
		return Verification{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	if !mac.Equal(row.MAC) {
		wrong := record.Result{Outcome: record.OutcomeRefused, Reason: "passcode-wrong"}
		_, err := record.Conclude(ctx, s.cfg.Recorder, ticket, wrong, who.Claims.End(true)...)
		return Verification{AttemptsLeft: row.Attempts}, err
	}
	// Transaction 2: verified, by the one who is first.
	verified := PasscodeVerified{Tenant: row.Owner.Tenant, ID: id, At: s.cfg.Now().Truncate(time.Millisecond)}
	result := record.Done()
	result.Refs = map[string]string{"verifiedAt": verified.At.UTC().Format(time.RFC3339Nano)}
	_, err = record.Conclude(ctx, s.cfg.Recorder, ticket, result, who.Claims.End(true, verified)...)
	if record.Refused(err) {
		return Verification{}, s.fail(ctx, ticket, err, who.Claims.End(false)...)
	}
	return Verification{Verified: err == nil, AttemptsLeft: row.Attempts}, err
}

// isPasscodeID reports whether a passcode may be called id.
func isPasscodeID(id string) bool {
	_, err := uuid.Parse(id)
	return err == nil && len(id) == len(uuid.Nil.String())
}

func isPasscode(code secret.Text) (ok bool) {
	code.Reveal(func(text []byte) {
		ok = len(text) >= signer.MinPasscodeDigits && len(text) <= signer.MaxPasscodeDigits &&
			!slices.ContainsFunc(text, func(c byte) bool { return c < '0' || c > '9' })
	})
	return ok
}

// needIdentifier refuses what is no identifier, or missing.
func needIdentifier(member, id string) error {
	if id == "" {
		return &FieldError{Member: member, Problem: "is missing"}
	}
	return checkIdentifier(member, id)
}
