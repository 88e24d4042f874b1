package secret

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
)

// Redact wraps a log handler as a net under everything that is logged: a text that
// looks like a card number is replaced whole. It is a net and not the means: card
// numbers live in PAN, which has no text form.
func Redact(next slog.Handler) slog.Handler { return redactor{next} }

type redactor struct{ next slog.Handler }

const redacted = "[redacted: looks like a card number]"

func (r redactor) Enabled(ctx context.Context, l slog.Level) bool { return r.next.Enabled(ctx, l) }

func (r redactor) Handle(ctx context.Context, rec slog.Record) error {
	clean := slog.NewRecord(rec.Time, rec.Level, redactText(rec.Message), rec.PC)
	rec.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(redactAttr(a))
		return true
	})
	return r.next.Handle(ctx, clean)
}

func (r redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = redactAttr(a)
	}
	return redactor{r.next.WithAttrs(clean)}
}

func (r redactor) WithGroup(name string) slog.Handler { return redactor{r.next.WithGroup(name)} }

func redactText(s string) string {
	if LooksLikePAN(s) {
		return redacted
	}
	return s
}

func redactAttr(a slog.Attr) slog.Attr {
	a.Key = redactText(a.Key)
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindInt64, slog.KindUint64:
		a.Value = v
		if LooksLikePAN(v.String()) {
			a.Value = slog.StringValue(redacted)
		}
	case slog.KindString:
		a.Value = slog.StringValue(redactText(v.String()))
	case slog.KindGroup:
		group := make([]slog.Attr, len(v.Group()))
		for i, g := range v.Group() {
			group[i] = redactAttr(g)
		}
		a.Value = slog.GroupValue(group...)
	case slog.KindAny:
		// A handler prints what it does not know in its own way; what it prints is
		// decided here instead.
		text := fmt.Sprint(v.Any())
		if b, ok := v.Any().([]byte); ok {
			text = string(b)
		} else if LooksLikePAN(fmt.Sprintf("%s", v.Any())) { // bytes inside, which Sprint lists as numbers
			text = redacted
		}
		a.Value = slog.StringValue(redactText(text))
	case slog.KindFloat64: // what encoding/json makes of a number
		a.Value = v
		if LooksLikePAN(strconv.FormatFloat(v.Float64(), 'f', -1, 64)) {
			a.Value = slog.StringValue(redacted)
		}
	default:
		a.Value = v
	}
	return a
}

// Reference is an identifier that came from outside as it may stand in a record: one that
// looks like a card number, which it has no reason to be, is withheld.
func Reference(value string) string {
	if LooksLikePAN(value) {
		return "withheld"
	}
	return value
}
