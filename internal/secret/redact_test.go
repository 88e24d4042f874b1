package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/secret"
)

type loud struct{ text string }

func (l loud) LogValue() slog.Value { return slog.StringValue(l.text) }

// Whatever shape a card number has when it reaches the log by mistake, it ends there.
func TestNetUnderTheLogCatchesCardNumbers(t *testing.T) {
	const n = 5555341244441115
	for name, say := range map[string]func(*slog.Logger){
		"message":          func(l *slog.Logger) { l.Info("card " + canaryPAN + " declined") },
		"string":           func(l *slog.Logger) { l.Info("m", "k", canaryPAN) },
		"key":              func(l *slog.Logger) { l.Info("m", canaryPAN, "v") },
		"blocks":           func(l *slog.Logger) { l.Info("m", "k", "5555 3412 4444 1115") },
		"integer":          func(l *slog.Logger) { l.Info("m", "k", n) },
		"negative integer": func(l *slog.Logger) { l.Info("m", "k", -n) },
		"unsigned integer": func(l *slog.Logger) { l.Info("m", "k", uint64(n)) },
		"float":            func(l *slog.Logger) { l.Info("m", "k", float64(n)) },
		"bytes":            func(l *slog.Logger) { l.Info("m", "k", []byte(canaryPAN)) },
		"raw JSON":         func(l *slog.Logger) { l.Info("m", "k", json.RawMessage(`{"pan":"`+canaryPAN+`"}`)) },
		"bytes inside":     func(l *slog.Logger) { l.Info("m", "k", struct{ body []byte }{[]byte(canaryPAN)}) },
		"JSON number":      func(l *slog.Logger) { l.Info("m", "k", json.Number(canaryPAN)) },
		"error":            func(l *slog.Logger) { l.Info("m", "k", fmt.Errorf("wrapped: %w", errors.New(canaryPAN))) },
		"struct":           func(l *slog.Logger) { l.Info("m", "k", struct{ PAN, name string }{canaryPAN, "x"}) },
		"pointer":          func(l *slog.Logger) { l.Info("m", "k", &struct{ pan string }{canaryPAN}) },
		"map":              func(l *slog.Logger) { l.Info("m", "k", map[string]any{"pan": canaryPAN}) },
		"slice":            func(l *slog.Logger) { l.Info("m", "k", []string{"x", canaryPAN}) },
		"LogValuer":        func(l *slog.Logger) { l.Info("m", "k", loud{canaryPAN}) },
		"group":            func(l *slog.Logger) { l.Info("m", slog.Group("g", "a", 1, slog.Group("h", "k", canaryPAN))) },
		"With":             func(l *slog.Logger) { l.With("k", canaryPAN).Info("m") },
		"WithGroup":        func(l *slog.Logger) { l.WithGroup("g").With("k", canaryPAN).Info("m", "k", n) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, handler := range []func(*bytes.Buffer) slog.Handler{
				func(w *bytes.Buffer) slog.Handler { return slog.NewTextHandler(w, nil) },
				func(w *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(w, nil) },
			} {
				var w bytes.Buffer
				say(slog.New(secret.Redact(handler(&w))))
				requireNoLeak(t, canaryPAN, "the log", strings.ReplaceAll(w.String(), "5555 3412 4444 1115", canaryPAN))
				if !strings.Contains(w.String(), "redacted") {
					t.Errorf("nothing says that something was left out: %s", w.String())
				}
			}
		})
	}
}

// What is no card number passes as it is.
func TestNetUnderTheLogLetsTheRestPass(t *testing.T) {
	var w bytes.Buffer
	log := slog.New(secret.Redact(slog.NewTextHandler(&w, &slog.HandlerOptions{
		Level: slog.LevelWarn,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})))
	log.Info("below the level")
	log.With("member", "hsm-a").WithGroup("token").Warn("ready", "epoch", 7, "took", 1500*time.Millisecond, "share", 0.25,
		"ok", true, "error", errors.New("none"), "id", []byte("a1"), slog.Group("kdf", "way", "digest-key"))
	const want = `level=WARN msg=ready member=hsm-a token.epoch=7 token.took=1.5s token.share=0.25 token.ok=true token.error=none token.id=a1 token.kdf.way=digest-key` + "\n"
	if w.String() != want {
		t.Errorf("log is %swant   %s", w.String(), want)
	}
}
