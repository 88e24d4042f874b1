package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A body is what a caller sends, and the problem it is answered with.
type body struct {
	text   string
	status int
	name   string
}

// bodies are the malformed bodies. All are refused before the domain is asked.
func bodies() map[string]body {
	good := changed(nil)
	insert := func(members string) string { return strings.TrimSuffix(good, "}") + "," + members + "}" }
	malformed := func(text string) body { return body{text, http.StatusBadRequest, "malformed-body"} }
	member := func(text string) body { return body{text, http.StatusBadRequest, "malformed-member"} }
	chain := func(value any) body {
		return body{changed(map[string]any{"certificates": value}), http.StatusUnprocessableEntity, "certificate-chain"}
	}
	tooLarge := func(text string) body { return body{text, http.StatusRequestEntityTooLarge, "body-too-large"} }
	nested := func(depth int) string {
		return `{"nonce":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + `}`
	}
	return map[string]body{
		"empty":            malformed(""),
		"blank":            malformed(" \r\n\t "),
		"null":             malformed("null"),
		"an array":         malformed("[" + good + "]"),
		"a string":         malformed(`"` + canary + `"`),
		"a number":         malformed("5204245250001488"),
		"true":             malformed("true"),
		"broken off":       malformed(good[:len(good)-1]),
		"not JSON":         malformed("externalCardId=card-1"),
		"JavaScript":       malformed(`{externalCardId:'card-1'}`),
		"a comment":        malformed("/* hello */" + good),
		"a trailing comma": malformed(strings.TrimSuffix(good, "}") + ",}"),
		"NaN":              malformed(insert(`"walletTypes":NaN`)),
		"byte order mark":  malformed("\ufeff" + good),
		"UTF-16":           malformed("\xff\xfe{\x00}\x00"),
		"a NUL after it":   malformed(good + "\x00"),

		"followed by another value": malformed(good + good),
		"followed by a bracket":     malformed(good + "}"),
		"followed by text":          malformed(good + " x"),
		"one value a line":          malformed(good + "\n" + good),

		"no member at all":         member("{}"),
		"no certificates":          member(changed(map[string]any{"certificates": nil})),
		"certificate is an object": member(changed(map[string]any{"certificates": nil, "certificate": map[string]any{"x": "y"}})),
		"certificate is a number":  member(changed(map[string]any{"certificates": nil, "certificate": 1})),
		"certificate is true":      member(changed(map[string]any{"certificates": nil, "certificate": true})),
		"certificate holds mixed":  member(changed(map[string]any{"certificates": nil, "certificate": []any{"MAMCAQE=", 1}})),

		"no certificate in the array": chain([]string{}),
		"certificate is empty":        {changed(map[string]any{"certificates": nil, "certificate": ""}), http.StatusUnprocessableEntity, "certificate-chain"},
		"too many certificates":       chain([]string{"MAMCAQE=", "MAMCAQE=", "MAMCAQE=", "MAMCAQE=", "MAMCAQE="}),
		"certificate in URL Base64":   chain([]string{"MAMC-_E=", "MAMCAQE="}),
		"certificate twice encoded":   chain([]string{"-----", "MAMCAQE="}),
		"an overlong certificate":     chain([]string{strings.Repeat("MAMC", 4<<10), "MAMCAQE="}),
		"an empty certificate":        chain([]string{"", "MAMCAQE="}),

		"externalCardId is a number": malformed(changed(map[string]any{"externalCardId": 5204245250001488})),
		"nonce is an array":          malformed(changed(map[string]any{"nonce": []string{"c5846fb5"}})),
		"nonce is true":              malformed(changed(map[string]any{"nonce": true})),
		"certificates is a string":   malformed(changed(map[string]any{"certificates": "MAMCAQE="})),
		"certificates is an object":  malformed(changed(map[string]any{"certificates": map[string]any{}})),
		"certificates holds numbers": malformed(changed(map[string]any{"certificates": []any{1, 2}})),
		"walletType is a number":     malformed(changed(map[string]any{"walletType": 1})),

		// null is a value of no member's type. A member that is not meant is left out.
		"nonce is null":          malformed(strings.Replace(good, `"c5846fb5"`, "null", 1)),
		"walletType is null":     malformed(strings.Replace(good, `"APPLE_PAY"`, "null", 1)),
		"the other name is null": malformed(insert(`"cardId":null`)),
		"certificate is null":    malformed(insert(`"certificate":null`)),
		"a certificate is null":  malformed(changed(map[string]any{"certificates": []any{"MAMCAQE=", any(nil)}})),
		"null, deep inside":      malformed(changed(map[string]any{"certificates": nil, "certificate": []any{"MAMCAQE=", any(nil)}})),

		"a member twice":                 malformed(insert(`"nonce":"c5846fb5"`)),
		"a member twice, once escaped":   malformed(insert(`"nonc\u0065":"00000000"`)),
		"an unknown member twice":        malformed(insert(`"x":1,"x":2`)),
		"twice, nested":                  malformed(`{"certificate":{"a":1,"a":2},"nonce":"c5846fb5","nonceSignature":"40"}`),
		"twice, nested and once escaped": malformed(`{"certificate":[{"a":1,"\u0061":2}],"nonce":"c5846fb5","nonceSignature":"40"}`),

		"an unknown member":               malformed(insert(`"pan":"5204245250001488"`)),
		"an unknown empty member":         malformed(insert(`"":""`)),
		"other case: Nonce":               malformed(strings.Replace(good, `"nonce"`, `"Nonce"`, 1)),
		"other case: NONCE":               malformed(strings.Replace(good, `"nonce"`, `"NONCE"`, 1)),
		"other case: externalCardID":      malformed(strings.Replace(good, "externalCardId", "externalCardID", 1)),
		"other case beside the right one": malformed(insert(`"NONCE":"00000000"`)),
		"Kelvin sign for k":               malformed(insert(`"wa` + "\u212a" + `":"x"`)),
		"__proto__":                       malformed(insert(`"__proto__":{"x":1}`)),

		"invalid UTF-8 in a value": malformed(strings.Replace(good, "card-1", "card\xff", 1)),
		"invalid UTF-8 in a name":  malformed(insert("\"no\xc3nce\":1")),
		"overlong UTF-8":           malformed(strings.Replace(good, "card-1", "card\xc0\xaf", 1)),
		"half a surrogate":         malformed(strings.Replace(good, "card-1", `card\ud800`, 1)),
		"a raw control character":  malformed(strings.Replace(good, "card-1", "card\x01", 1)),
		"a line end in a string":   malformed(strings.Replace(good, "card-1", "card\n", 1)),

		"nested as deep as 64 KiB allow": malformed(nested(30_000)),
		"nested objects":                 malformed(strings.Repeat(`{"nonce":`, 7_000)),
		"nested 100,000 deep":            tooLarge(nested(100_000)),

		"64 KiB and one byte": tooLarge(good + strings.Repeat(" ", maxBody+1-len(good))),
		"a megabyte":          tooLarge(changed(map[string]any{"nonce": strings.Repeat("a", 1<<20)})),
		"a megabyte of blank": tooLarge(strings.Repeat(" ", 1<<20)),
	}
}

func TestMalformedBodiesAreRefused(t *testing.T) {
	for name, b := range bodies() {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, mustNotBeAsked(t))
			got := a.do(a.post(b.text))
			got.expect(t, b.status, b.name)
			if got.problem(t).Detail == "" {
				t.Error("the problem does not say what to do")
			}
			a.holdsNothingOf(got, canary, canaryNumber)
		})
	}
}

func TestBodyOfExactly64KiBIsTaken(t *testing.T) {
	a := newAPI(t, provisioner(seals))
	good := changed(nil)
	if got := a.do(a.post(good + strings.Repeat(" ", 64<<10-len(good)))); got.status != http.StatusOK {
		t.Errorf("answered %d: %s", got.status, got.body)
	}
}

func TestBodyThatEndsEarlyIsMalformed(t *testing.T) {
	a := newAPI(t, mustNotBeAsked(t))
	req := a.post("")
	req.Body = io.NopCloser(io.MultiReader(strings.NewReader(changed(nil)), broken{}))
	a.do(req).expect(t, http.StatusBadRequest, "malformed-body")
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset: " + canary) }

func TestBodyMustBeJSON(t *testing.T) {
	for contentType, taken := range map[string]bool{
		"application/json":                  true,
		"application/json; charset=utf-8":   true,
		"Application/JSON":                  true,
		"application/json ; charset=UTF-8 ": true,
		"":                                  false,
		"text/plain":                        false,
		"text/json":                         false,
		"application/problem+json":          false,
		"application/jsonp":                 false,
		"application/x-www-form-urlencoded": false,
		"multipart/form-data; boundary=x":   false,
		"application/json, text/plain":      false,
		"application/json;":                 true, // RFC 9110, 5.6.6 lets a recipient take it
		"application/json; charset":         false,
		"*/*":                               false,
		"/":                                 false,
	} {
		t.Run(contentType, func(t *testing.T) {
			a := newAPI(t, provisioner(seals))
			req := a.post(changed(nil))
			req.Header.Set("Content-Type", contentType)
			got := a.do(req)
			if taken && got.status != http.StatusOK {
				t.Errorf("answered %d: %s", got.status, got.body)
			}
			if !taken {
				got.expect(t, http.StatusUnsupportedMediaType, "media-type")
			}
		})
	}
	a := newAPI(t, mustNotBeAsked(t))
	req := a.post(changed(nil))
	req.Header.Del("Content-Type")
	a.do(req).expect(t, http.StatusUnsupportedMediaType, "media-type")
}

// chunks is a body whose length nobody knows, n bytes a read.
func chunks(text string, n int) io.ReadCloser {
	return io.NopCloser(&limitedReads{strings.NewReader(text), n})
}

type limitedReads struct {
	r io.Reader
	n int
}

func (l *limitedReads) Read(p []byte) (int, error) { return l.r.Read(p[:min(len(p), l.n)]) }

// read takes an answer off the wire.
func read(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b.String()}
}
