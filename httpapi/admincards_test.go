package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mintmark/mintmark/internal/provisioning"
)

// keeper is a CardKeeper whose rekey finds one row that does not open.
type keeper struct{ imported atomic.Int32 }

func (k *keeper) ImportCard(context.Context, string, string, string) error {
	k.imported.Add(1)
	return nil
}

func (k *keeper) Rekey(context.Context, provisioning.CardRow) (provisioning.RekeyStep, error) {
	stuck := provisioning.CardRow{Owner: provisioning.Owner{Tenant: "bank"}, ID: "row-1"}
	return provisioning.RekeyStep{Moved: 2, Changed: 1, Stuck: []provisioning.CardRow{stuck}, Next: stuck, Done: true}, nil
}

func postTo(h http.Handler, host, path, mediaType, body string) (int, string) {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	req.Host = host
	req.Header.Set("Content-Type", mediaType)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

// Each line has its result: one final line end is none of them, and a blank line is one.
func TestImportAnswersForEachLine(t *testing.T) {
	h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), nil, CardRoutes(&keeper{}, slog.New(slog.DiscardHandler)))
	const line, bad = `{"encryptedCard":"x"}`, `"refused: not a line of the form {\"encryptedCard\":\"…\"}"`
	for body, want := range map[string]string{
		line:                        `{"results":["stored"]}`,
		line + "\n":                 `{"results":["stored"]}`,
		line + "\n\n":               `{"results":["stored",` + bad + `]}`,
		line + "\n\n" + line + "\n": `{"results":["stored",` + bad + `,"stored"]}`,
	} {
		if code, got := postTo(h, "localhost", "/cards/import?tenant=bank", importMediaType, body); code != 200 || got != want {
			t.Errorf("%q answers %d %s", body, code, got)
		}
	}
}

func TestRekeyNamesWhatDoesNotOpen(t *testing.T) {
	h := NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), nil, CardRoutes(&keeper{}, slog.New(slog.DiscardHandler)))
	const want = `{"tenant":"bank","id":"row-1","moved":2,"changed":1,"stuck":[{"tenant":"bank","id":"row-1"}],"done":true}`
	if code, got := postTo(h, "localhost", "/cards/rekey", "application/json", `{"tenant":"","id":""}`); code != 200 || got != want {
		t.Errorf("answers %d %s", code, got)
	}
}
