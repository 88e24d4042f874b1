package secret_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/mintmark/mintmark/internal/secret"
)

// The three secrets of the leak tests.
const (
	canaryPAN  = "5555341244441115"
	canaryPIN  = "hunter-2-of-the-token"
	canaryText = "Ada Q. Lovelace-Byron"
)

func pan(t *testing.T, digits string) secret.PAN {
	t.Helper()
	p, err := secret.ParsePAN([]byte(digits))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// forms are the shapes in which a secret is known to come out of a formatter.
func forms(canary string) map[string]string {
	list := func(sep, format string) string {
		parts := make([]string, len(canary))
		for i := range len(canary) {
			parts[i] = fmt.Sprintf(format, canary[i])
		}
		return strings.Join(parts, sep)
	}
	return map[string]string{
		"plain":           canary,
		"hex":             hex.EncodeToString([]byte(canary)),
		"HEX":             strings.ToUpper(hex.EncodeToString([]byte(canary))),
		"Base64":          base64.RawStdEncoding.EncodeToString([]byte(canary)),
		"bytes":           list(" ", "%d"),
		"bytes, commas":   list(",", "%d"),
		"bytes, Go":       list(", ", "0x%x"),
		"bytes, spaced":   list(" ", "%x"),
		"bytes, SPACED":   list(" ", "%X"),
		"bytes, 0x":       list(" ", "0x%x"),
		"bits":            list(" ", "%b"),
		"octal":           list(" ", "%o"),
		"octal, 0":        list(" ", "0%o"),
		"Unicode":         list(" ", "U+%04X"),
		"quoted letters":  list(" ", "'%c'"),
		"without its end": canary[:len(canary)-4],
	}
}

func requireNoLeak(t *testing.T, canary, how, out string) {
	t.Helper()
	for form, s := range forms(canary) {
		if strings.Contains(out, s) {
			t.Errorf("%s shows it as %s: %s", how, form, out)
		}
	}
}

// wrapped are the places in which a value stands when somebody prints it.
func wrapped[T any](v T) map[string]any {
	type exported struct {
		Value T
		N     int
	}
	type unexported struct {
		value T
		n     int
	}
	type pointers struct {
		Value *T
		value *T
	}
	type deep struct{ inner unexported }
	return map[string]any{
		"value":                     v,
		"pointer":                   &v,
		"exported field":            exported{v, 1},
		"pointer to exported field": &exported{v, 1},
		"unexported field":          unexported{v, 1},
		"pointer to unexported":     &unexported{v, 1},
		"unexported, deeper":        deep{unexported{v, 1}},
		"fields that are pointers":  pointers{&v, &v},
		"pointer to such":           &pointers{&v, &v},
		"map":                       map[string]T{"k": v},
		"map of pointers":           map[string]*T{"k": &v},
		"map of structs":            map[string]unexported{"k": {v, 1}},
		"slice":                     []T{v},
		"slice of pointers":         []*T{&v},
		"slice of structs":          []unexported{{v, 1}},
		"array":                     [1]T{v},
		"interface":                 []any{v, &v, unexported{v, 1}},
		"anonymous struct":          struct{ any }{v},
	}
}

// %t and %p have no meaning for a secret; the rest is every verb there is.
var verbs = []string{"%v", "%+v", "%#v", "%s", "%q", "%#q", "%+q", "%d", "%+d", "%x", "%X", "% x", "%#x", "% X", "%o", "%O", "%b", "%c", "%U", "%#U", "%e", "%g", "%T", "%10v", "%-10s", "%.3s", "%08d", "%!", "%z"}

func requireSilent[T any](t *testing.T, canary string, v T) {
	t.Helper()
	for place, x := range wrapped(v) {
		for _, verb := range verbs {
			requireNoLeak(t, canary, place+", "+verb, fmt.Sprintf(verb, x))
		}
		requireNoLeak(t, canary, place+", Sprint", fmt.Sprint(x, x))
		requireNoLeak(t, canary, place+", Sprintln", fmt.Sprintln("secret is", x))
		requireNoLeak(t, canary, place+", panic value", fmt.Sprint(errors.New(fmt.Sprint(x))))
		requireNoLeak(t, canary, place+", error", fmt.Errorf("handle %v: %+v", x, x).Error())

		for encoder, encode := range map[string]func(any) ([]byte, error){
			"json": json.Marshal, "yaml": yaml.Marshal, "xml": xml.Marshal,
			"json, indented": func(x any) ([]byte, error) { return json.MarshalIndent(x, "", " ") },
		} {
			b, err := encode(x) // a refusal is fine, as long as it is silent
			requireNoLeak(t, canary, place+", "+encoder, fmt.Sprintf("%s %v", b, err))
		}

		for handler, make := range map[string]func(*bytes.Buffer) slog.Handler{
			"slog text": func(w *bytes.Buffer) slog.Handler { return slog.NewTextHandler(w, nil) },
			"slog json": func(w *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		} {
			var w bytes.Buffer
			log := slog.New(make(&w))
			log.Info("message", "k", x)
			log.Info(fmt.Sprint(x))
			log.With("k", x).WithGroup("g").Error("message", slog.Any("k", x), slog.Group("h", "k", x))
			requireNoLeak(t, canary, place+", "+handler, w.String())
		}
	}
}

func TestNothingThatPrintsShowsASecret(t *testing.T) {
	t.Run("PAN", func(t *testing.T) { requireSilent(t, canaryPAN, pan(t, canaryPAN)) })
	t.Run("PIN", func(t *testing.T) { requireSilent(t, canaryPIN, secret.NewPIN([]byte(canaryPIN))) })
	t.Run("Text", func(t *testing.T) { requireSilent(t, canaryText, secret.NewText(canaryText)) })
}

// The leak test finds leaks: a plain string and a byte slice are caught in every form.
func TestLeakTestWouldFindALeak(t *testing.T) {
	for _, x := range []any{canaryPAN, []byte(canaryPAN), &struct{ v []byte }{[]byte(canaryPAN)}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%X", "% x"} {
			if s, ok := x.(string); ok && verb == "%d" {
				x = []byte(s)
			}
			out, found := fmt.Sprintf(verb, x), false
			for _, form := range forms(canaryPAN) {
				found = found || strings.Contains(out, form)
			}
			if !found {
				t.Errorf("%s of %T is not recognised: %s", verb, x, out)
			}
		}
	}
}

// What takes the place of a secret says what stood there.
func TestPlaceholders(t *testing.T) {
	for want, v := range map[string]any{
		"[PAN]": pan(t, canaryPAN), "[PIN]": secret.NewPIN([]byte(canaryPIN)), "[confidential]": secret.NewText(canaryText),
	} {
		for _, verb := range []string{"%v", "%s", "%d", "%x", "%#v"} {
			if got := fmt.Sprintf(verb, v); got != want {
				t.Errorf("%s is %q, want %q", verb, got, want)
			}
		}
		if b, err := json.Marshal(v); err != nil || string(b) != strconv.Quote(want) {
			t.Errorf("JSON is %s, %v", b, err)
		}
	}
}

// The zero values hold nothing and bear every use.
func TestZeroValuesAreEmpty(t *testing.T) {
	var (
		p  secret.PAN
		n  secret.PIN
		x  secret.Text
		np *secret.PAN
	)
	for _, reveal := range []func(func([]byte)){p.Reveal, n.Reveal, x.Reveal} {
		reveal(func(b []byte) {
			if len(b) != 0 {
				t.Errorf("a zero value holds %x", b)
			}
		})
	}
	p.Wipe()
	n.Wipe()
	x.Wipe()
	if p.Last4() != "" || x.Len() != 0 {
		t.Errorf("a zero value has last digits %q and length %d", p.Last4(), x.Len())
	}
	if got := fmt.Sprint(p, n, x, np); got != "[PAN] [PIN] [confidential] <nil>" {
		t.Errorf("zero values print as %s", got)
	}
}
