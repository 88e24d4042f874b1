package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/internal/provisioning"
)

// CardKeeper is what the admin listener asks of push provisioning for operators;
// *provisioning.Service is it.
type CardKeeper interface {
	ImportCard(ctx context.Context, tenant, requestID, encrypted string) error
	Rekey(ctx context.Context, after provisioning.CardRow) (provisioning.RekeyStep, error)
}

var _ CardKeeper = (*provisioning.Service)(nil)

// The bounds of one import request, and how many of its cards are worked on at once.
const (
	maxImport       = 4 << 20 // bytes
	maxImportLines  = 1000
	importsAtOnce   = 16
	importMediaType = "application/x-ndjson"
)

// CardRoutes gives, on the admin listener, what mintmark cards asks of a running service:
//
//	POST /cards/import?tenant=T  JSON Lines of {"encryptedCard"}; answers {"results"}, one a line
//	POST /cards/rekey            {"tenant", "id"} of the row behind which to begin; moves a batch
//
// Their media types keep pages of a browser on the same machine from sending them.
func CardRoutes(cards CardKeeper, log *slog.Logger) func(gin.IRouter) {
	a := &cardAdmin{cards, log}
	return func(r gin.IRouter) {
		r.POST("/cards/import", oncePerParameter, gin.WrapF(a.importCards))
		r.POST("/cards/rekey", gin.WrapF(a.rekey))
	}
}

type cardAdmin struct {
	cards CardKeeper
	log   *slog.Logger
}

// ImportLine is one line of an import.
type ImportLine struct {
	EncryptedCard string `json:"encryptedCard"`
}

// ImportResults says what became of each line: stored, present (a message of its jti for its
// card was used before, which may not have been this one),
// unavailable (send it again), or refused and why.
type ImportResults struct {
	Results []string `json:"results"`
}

// The results of an import that are not refusals.
const (
	ImportStored      = "stored"
	ImportPresent     = "present"
	ImportUnavailable = "unavailable"
)

func (a *cardAdmin) importCards(w http.ResponseWriter, r *http.Request) {
	tenant := r.URL.Query().Get("tenant")
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != importMediaType || tenant == "" {
		http.Error(w, "send "+importMediaType+" and name the tenant", http.StatusUnsupportedMediaType)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxImport))
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	if err != nil || len(lines) > maxImportLines {
		http.Error(w, "too many lines at once", http.StatusRequestEntityTooLarge)
		return
	}
	results := make([]string, len(lines))
	places := make(chan struct{}, importsAtOnce)
	var running sync.WaitGroup
	for i, line := range lines {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			results[i] = a.importLine(r.Context(), tenant, line)
		})
	}
	running.Wait()
	writeAnswer(w, ImportResults{results})
}

func (a *cardAdmin) importLine(ctx context.Context, tenant, line string) string {
	var in ImportLine
	if json.Unmarshal([]byte(line), &in, json.RejectUnknownMembers(true)) != nil {
		return "refused: not a line of the form {\"encryptedCard\":\"…\"}"
	}
	err := a.cards.ImportCard(ctx, tenant, "import", in.EncryptedCard)
	var card *provisioning.CardError
	switch {
	case err == nil:
		return ImportStored
	case errors.Is(err, provisioning.ErrMessageUsed):
		return ImportPresent
	case errors.Is(err, provisioning.ErrEncryptedCard):
		return "refused: encrypted-card"
	case errors.Is(err, provisioning.ErrUnknownCard):
		return "refused: the id is another owner's"
	case errors.As(err, &card):
		return "refused: " + string(card.Reason)
	default:
		a.log.ErrorContext(ctx, "card not imported", "error", err)
		return ImportUnavailable
	}
}

// RekeyPlace is where a batch of a rekey begins, and where it ended and what became of it.
type RekeyPlace struct {
	Tenant  string    `json:"tenant"`
	ID      string    `json:"id"`
	Moved   int       `json:"moved"`
	Changed int       `json:"changed"` // somebody else replaced or removed them meanwhile
	Stuck   []CardRef `json:"stuck"`   // they do not open
	Done    bool      `json:"done"`
}

// CardRef names a row.
type CardRef struct {
	Tenant string `json:"tenant"`
	ID     string `json:"id"`
}

func (a *cardAdmin) rekey(w http.ResponseWriter, r *http.Request) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		http.Error(w, "send application/json", http.StatusUnsupportedMediaType)
		return
	}
	var from RekeyPlace
	if body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil || json.Unmarshal(body, &from, json.RejectUnknownMembers(true)) != nil {
		http.Error(w, "send {\"tenant\", \"id\"}", http.StatusBadRequest)
		return
	}
	step, err := a.cards.Rekey(r.Context(), provisioning.CardRow{Owner: provisioning.Owner{Tenant: from.Tenant}, ID: from.ID})
	if err != nil {
		a.log.ErrorContext(r.Context(), "cards not rekeyed", "error", err)
		http.Error(w, "token or database did not answer; what was moved stays moved", http.StatusServiceUnavailable)
		return
	}
	stuck := make([]CardRef, len(step.Stuck))
	for i, row := range step.Stuck {
		stuck[i] = CardRef{row.Owner.Tenant, row.ID}
	}
	writeAnswer(w, RekeyPlace{
		Tenant: step.Next.Owner.Tenant, ID: step.Next.ID, Moved: step.Moved, Changed: step.Changed, Stuck: stuck, Done: step.Done,
	})
}

func writeAnswer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.MarshalWrite(w, body) // to a caller who may have gone
}
