package httpapi

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/access"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/record"
)

// ConsoleCards is what the console asks of push provisioning, as clients do, and on record as
// for them; *provisioning.Service is it.
type ConsoleCards interface {
	TokenHistory(ctx context.Context, who provisioning.Caller, reference string) ([]provisioning.Token, error)
	GetCard(ctx context.Context, who provisioning.Caller, externalID string) (provisioning.Masked, error)
}

var _ ConsoleCards = (*provisioning.Service)(nil)

// ConsolePasses is what the console asks of the passes; *passes.Service is it.
type ConsolePasses interface {
	Get(ctx context.Context, id passes.ID) (passes.Stored, error)
}

var _ ConsolePasses = (*passes.Service)(nil)

// A lookedUp is the page of look-ups: what was asked for, and what there is of it.
type lookedUp struct {
	Kind, Tenant, Reference, Type string
	HasCards, HasPasses           bool

	Wrong  string // what is wrong with what was asked
	Tokens []provisioning.Token
	Card   *provisioning.Masked
	Pass   *shownPass
}

// A shownPass is what is shown of a pass: neither its document, which may name its holder,
// nor its token.
type shownPass struct {
	Version              int64
	Modified             time.Time
	Voided, Personalised bool
	Files                int
}

// lookup shows wallet tokens, cards and passes by reference, masked.
func (h *console) lookup(c *gin.Context) {
	page := lookedUp{HasCards: h.cfg.Cards != nil, HasPasses: h.cfg.PassRows != nil}
	status := http.StatusOK
	switch err := h.readLookup(c, &page); {
	case errors.As(err, new(errQuery)):
		status, page.Wrong = http.StatusBadRequest, err.Error()
	case page.Kind == "":
	default:
		err := h.find(c, &page)
		var member *provisioning.FieldError
		switch {
		case err == nil:
		case errors.Is(err, errNothingFound):
			status, page.Wrong = http.StatusNotFound, "Nothing of this tenant has this reference."
		case errors.As(err, &member):
			status, page.Wrong = http.StatusBadRequest, member.Error()+"."
		default:
			h.failPage(c, err)
			return
		}
	}
	h.showAs(c, status, "lookup", "Look-up", page)
}

// readLookup reads the form that was sent, if one was.
func (h *console) readLookup(c *gin.Context, page *lookedUp) error {
	var errs []error
	for _, f := range []struct {
		name string
		to   *string
	}{{"kind", &page.Kind}, {"tenant", &page.Tenant}, {"type", &page.Type}, {"reference", &page.Reference}} {
		var err error
		*f.to, err = field(c, f.name)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if page.Kind == "" {
		return nil
	}
	// A page elsewhere, on another port of this machine too, must not have this browser make
	// entries in the log. Browsers say where a request comes from (Fetch Metadata).
	if !slices.Contains([]string{"", "none", "same-origin"}, c.GetHeader("Sec-Fetch-Site")) {
		return errQuery("Another site led here. Send the form yourself.")
	}
	if page.Tenant == "" || page.Reference == "" {
		return errQuery("Name the tenant and the reference.")
	}
	return nil
}

// errNothingFound is returned for what is not there, and for a kind of reference that is
// not looked up here.
var errNothingFound = errors.New("nothing found")

// find looks up what the page asks for.
func (h *console) find(c *gin.Context, page *lookedUp) error {
	who, err := h.mayLookUp(c, page.Tenant)
	if err != nil {
		return err
	}
	ctx := c.Request.Context()
	caller := provisioning.Caller{
		Owner: provisioning.Owner{Tenant: page.Tenant, Issuer: who.Issuer, Subject: who.Subject}, AnyOwner: true, RequestID: requestID(c),
	}
	switch {
	case page.Kind == "token" && page.HasCards:
		page.Tokens, err = h.cfg.Cards.TokenHistory(ctx, caller, page.Reference)
	case page.Kind == "card" && page.HasCards:
		var card provisioning.Masked
		if card, err = h.cfg.Cards.GetCard(ctx, caller, page.Reference); err == nil {
			page.Card = &card
		}
	case page.Kind == "pass" && page.HasPasses:
		var p passes.Stored
		if p, err = h.cfg.PassRows.Get(ctx, passID(page.Tenant, page.Type, page.Reference)); err == nil {
			page.Pass = &shownPass{p.Version, time.Unix(p.Modified, 0), p.Voided, len(p.Personal) > 0, len(p.Document.Files)}
		}
	default:
		return errNothingFound
	}
	for _, unknown := range []error{provisioning.ErrUnknownToken, provisioning.ErrUnknownCard, passes.ErrUnknown} {
		if errors.Is(err, unknown) {
			return errNothingFound
		}
	}
	return err
}

// mayLookUp gives the caller if its right is for the tenant's data. A refusal is on record.
func (h *console) mayLookUp(c *gin.Context, tenant string) (access.Caller, error) {
	if h.cfg.Open {
		return access.Caller{}, nil
	}
	who, _ := c.MustGet(callerKey).(access.Caller)
	err := who.MayIn(access.ViewConsole, tenant)
	if err != nil {
		h.refuse(c, record.ViewConsole, who, "forbidden")
	}
	return who, err
}
