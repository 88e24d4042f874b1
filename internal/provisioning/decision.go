package provisioning

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/internal/record"
)

// A Decision is a stored answer to the network's approval check. As a record.Change it
// writes itself.
type Decision struct {
	ID       string
	Owner    Owner      // of the card
	Card     []byte     // the card's look-up value (Gate.CardIndex)
	Device   Ref        // zero: the decision is about the card on every device
	Session  Ref        // of the app in which the card was added; zero: none is known
	Apple    path.Color // what Apple recommended
	Path     path.Color
	Required []path.Requirement // what was still to be done when it was made
	At       time.Time
	Until    time.Time // it counts before this; then it is as if there were none

	Number int64 // among the card's decisions, rising; given by the store
}

// IsChange marks Decision as a record.Change.
func (Decision) IsChange() {}

// StateSHA256 is the SHA-256, in hex, of all that a decision says but its number. It stands in
// the entry, so that the row cannot be changed unseen.
func (d Decision) StateSHA256() string {
	parts := []string{d.ID, d.Owner.Tenant, d.Owner.Issuer, d.Owner.Subject, string(d.Card), string(d.Device[:]), string(d.Session[:]),
		string(d.Apple), string(d.Path), timeText(d.At), timeText(d.Until)}
	for _, r := range d.Required {
		parts = append(parts, r.Rule, strconv.Itoa(len(r.AnyOf)))
		for _, step := range r.AnyOf {
			parts = append(parts, string(step))
		}
	}
	return stateSHA256("decision", parts...)
}

// stateSHA256 is the SHA-256 of a kind of row and its parts, each with its length. No part is
// derived from a card number but by a key of the token.
func stateSHA256(kind string, parts ...string) string {
	return digestOf(fmt.Sprintf("mintmark %s v1", kind), parts)
}

// digestOf is the SHA-256, in hex, of a beginning and of parts, each with its length.
func digestOf(beginning string, parts []string) string {
	digest := sha256.New()
	_, _ = io.WriteString(digest, beginning) // does not fail (hash.Hash)
	for _, part := range parts {
		_, _ = fmt.Fprintf(digest, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(digest.Sum(nil))
}

// timeText is a time as it is kept, in milliseconds; that there is none is 0.
func timeText(t time.Time) string {
	if t.IsZero() {
		return "0"
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// A Ref stands for a device or a session with one tenant: a digest, since no more is needed
// than to recognise it. The zero value is none.
type Ref [sha256.Size]byte

func deviceRef(tenant, device string) Ref { return refOf("device", tenant, device) }

// refOf is the SHA-256 of a domain, the tenant and the identifier.
func refOf(what, tenant, id string) Ref {
	if id == "" {
		return Ref{}
	}
	return sha256.Sum256([]byte("mintmark provisioning " + what + " v1\x00" + tenant + "\x00" + id))
}

// Decisions keeps decisions.
type Decisions interface {
	// LatestDecisions gives, for each device that the card of an owner has a decision for,
	// the latest one that still counts; in no order. One about no device in particular is
	// that of the zero device. An error with RetryAfter says that it cannot be told.
	LatestDecisions(ctx context.Context, owner Owner, card []byte, now time.Time) ([]Decision, error)
}

// A Use is what a decision is consulted for.
type Use int

// The uses.
const (
	// ToSeal is sealing a card. It comes before the network asks for a decision: without one
	// it goes on, and one that asks for steps does not keep it, since the attempt that it is
	// for gets a decision of its own. RED does.
	ToSeal Use = iota
	// ToVerify is activation data for In-App Verification. Without a decision it goes on: the
	// network asks for one before it activates anything.
	ToVerify
	// ToActivate is having the network activate a token. Without a decision it is forbidden.
	ToActivate
)

// DecisionReason is why a decision, or the want of one, forbids a use. The texts are stable.
type DecisionReason string

// The reasons.
const (
	NoDecision       DecisionReason = "no-decision"       // none that still counts
	DecisionRed      DecisionReason = "decision-red"      // declined
	DecisionRequires DecisionReason = "decision-requires" // a required step is not done
)

// A DecisionError is a use that the latest stored decision does not permit.
type DecisionError struct{ Reason DecisionReason }

// Error is the reason.
func (e *DecisionError) Error() string { return "decision forbids: " + string(e.Reason) }

// identifier is what devices, sessions and channels are called by.
var identifier = regexp.MustCompile(`^[A-Za-z0-9._:@+/=-]{1,128}$`)

// checkDeviceID refuses what is no identifier; none is one.
func checkDeviceID(id string) error { return checkIdentifier("deviceId", id) }

func checkIdentifier(member, id string) error {
	if id != "" && !identifier.MatchString(id) {
		return &FieldError{Member: member, Problem: "must be 1 to 128 characters of A-Z, a-z, 0-9, '.', '_', ':', '@', '+', '/', '=', '-'"}
	}
	return nil
}

// An ask is what a decision is looked for by.
type ask struct {
	owner          Owner
	externalCardID string
	deviceID       string // empty: whatever the device is
	use            Use
}

// permits consults the latest stored decision for a card and its owner. A device narrows it
// to decisions about that device or about none in particular, of which the later counts.
// Without one a use must be permitted on every device that there is a decision for: a
// decline of one phone is not undone by the approval of another.
//
// Errors: *DecisionError; or one with RetryAfter. The ticket's operation must be one that may
// compute a card's look-up value.
func (s *Service) permits(ctx context.Context, t *record.Ticket, a ask) error {
	card, err := s.cfg.Gate.CardIndex(ctx, t, a.owner.Tenant, a.externalCardID)
	if err != nil {
		return err
	}
	return s.permitsCard(ctx, card, a)
}

// permitsCard is permits where the card's look-up value is known.
func (s *Service) permitsCard(ctx context.Context, card []byte, a ask) error {
	all, err := s.cfg.Decisions.LatestDecisions(ctx, a.owner, card, s.cfg.Now())
	if err != nil {
		return err
	}
	about := decisive(all, deviceRef(a.owner.Tenant, a.deviceID))
	if len(about) == 0 && a.use == ToActivate {
		return &DecisionError{NoDecision}
	}
	for _, d := range about {
		if why := d.forbids(a.use); why != "" {
			return &DecisionError{why}
		}
	}
	return nil
}

// decisive gives the decisions that count for a device, or for any if it is the zero one:
// of each device the later of its own and of the one about no device in particular.
func decisive(all []Decision, device Ref) []Decision {
	var general *Decision
	var own []Decision
	for i, d := range all {
		switch {
		case d.Device == (Ref{}):
			general = &all[i]
		case device == (Ref{}) || d.Device == device:
			own = append(own, d)
		}
	}
	if general == nil {
		return own
	}
	for i := range own {
		if own[i].Number < general.Number {
			own[i] = *general
		}
	}
	if len(own) == 0 || device == (Ref{}) {
		own = append(own, *general)
	}
	return own
}

// forbids is why the decision does not permit a use; empty if it does. A requirement that
// In-App Verification fulfils is fulfilled by the use itself.
func (d Decision) forbids(use Use) DecisionReason {
	open := func(r path.Requirement) bool { return !r.FulfilledBy(path.InAppVerification) }
	switch {
	case d.Path == path.Red:
		return DecisionRed
	case use != ToSeal && slices.ContainsFunc(d.Required, open):
		return DecisionRequires
	default:
		return ""
	}
}
