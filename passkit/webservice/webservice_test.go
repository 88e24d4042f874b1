package webservice_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/passkit/webservice"
)

func TestTagsOfAllKindsAreRead(t *testing.T) {
	for tag, want := range map[string]int64{
		"": 0, "1795348800123": 1795348800123, "1795348800": 1795348800000, "99999999999": 99999999999000, "100000000000": 100000000000,
		"0": 0, "-1": 0, "1.5": 0, " 1": 0, "1e9": 0, "yesterday": 0, "99999999999999999999": 0, "٣": 0,
	} {
		if got := webservice.ParseTag(tag); got != want {
			t.Errorf("%q is %d, want %d", tag, got, want)
		}
	}
	if got := webservice.ParseTag(webservice.FormatTag(1795348800123)); got != 1795348800123 {
		t.Errorf("a tag comes back as %d", got)
	}
}

func TestAuthorizationHasASchemeAndAToken(t *testing.T) {
	for _, tc := range []struct {
		headers []string
		client  string
		kind    webservice.ClientKind
		token   string
	}{
		{[]string{"ApplePass t0"}, "", webservice.Apple, "t0"},
		{[]string{"applepass t0"}, "other", webservice.Apple, "t0"},
		{[]string{"AndroidPass t0"}, "", webservice.Android, "t0"},
		{[]string{"AndroidPass t0"}, "WalletPasses", "walletpasses", "t0"},
		{[]string{"AndroidPass t0"}, "apple", webservice.Android, "t0"},
		{[]string{"AndroidPass t0"}, "a b", webservice.Android, "t0"},
		{[]string{"WalletUnionPass t 0"}, "", webservice.WalletUnion, "t 0"},
		{nil, "", "", ""},
		{[]string{"ApplePass"}, "", "", ""},
		{[]string{"ApplePass "}, "", "", ""},
		{[]string{"Bearer t0"}, "", "", ""},
		{[]string{"ApplePass t0", "ApplePass t0"}, "", "", ""},
	} {
		got, err := webservice.ParseAuthorization(tc.headers, tc.client)
		if got.Kind != tc.kind || got.Token != tc.token || (err == nil) != (tc.kind != "") {
			t.Errorf("%q with client %q is %+v, %v", tc.headers, tc.client, got, err)
		}
	}
}

func TestBodiesOfDevices(t *testing.T) {
	if token, err := webservice.ParseRegistration([]byte(`{"pushToken":"ab","new":{"x":[]}}`)); err != nil || token != "ab" {
		t.Errorf("%q, %v", token, err)
	}
	for _, body := range []string{"", "null", "[]", "{}", `{"pushToken":7}`, `{"pushToken":""}`, `{"pushToken":"a\u0000b"}`, `{"pushToken":"` + strings.Repeat("x", 3000) + `"}`} {
		if _, err := webservice.ParseRegistration([]byte(body)); !errors.Is(err, webservice.ErrBody) {
			t.Errorf("registration of %d bytes: %v", len(body), err)
		}
	}
	p, err := webservice.ParsePersonalization([]byte(`{"personalizationToken":"t","requiredPersonalizationInfo":{"givenName":"A"},"x":1}`))
	if err != nil || p.Token != "t" || string(p.Info) != `{"givenName":"A"}` {
		t.Errorf("%+v, %v", p, err)
	}
	for _, body := range []string{"", "{}", `{"personalizationToken":7}`, `{"personalizationToken":"t","requiredPersonalizationInfo":[]}`} {
		if _, err := webservice.ParsePersonalization([]byte(body)); !errors.Is(err, webservice.ErrBody) {
			t.Errorf("personalisation %s: %v", body, err)
		}
	}
}

func TestLogLinesNameWhatTheyAreAbout(t *testing.T) {
	lines, err := webservice.ParseLogs([]byte(`{"logs":[
		"[2026-11-22 12:00:00 +0000] Register task (for device 3b1c, pass type pass.a, serial number 17; with web service url https://x) encountered error: Unexpected response code 500",
		"[x] Unregister task (for device 3b1c, pass type pass.a, serial number 17; with web service url https://x) encountered error: y",
		"[x] Get serial #s task (for device 3b1c, pass type pass.a, last updated (null); with web service url https://x) encountered error: y",
		"[x] Get pass task (pass type pass.a, serial number 17, if-modified-since (null); with web service url https://x) encountered error: y",
		"something\u0000\u001b[31m else\n"]}`))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []webservice.LogLine{
		{Kind: webservice.LogRegister, Device: "3b1c", PassType: "pass.a", Serial: "17"},
		{Kind: webservice.LogUnregister, Device: "3b1c", PassType: "pass.a", Serial: "17"},
		{Kind: webservice.LogList, Device: "3b1c", PassType: "pass.a"},
		{Kind: webservice.LogGet, PassType: "pass.a", Serial: "17"},
		{Kind: webservice.LogOther},
	} {
		want.Text = lines[i].Text
		if lines[i] != want {
			t.Errorf("line %d is %+v", i, lines[i])
		}
	}
	if strings.ContainsAny(lines[4].Text, "\x00\x1b\n") {
		t.Errorf("control characters are left: %q", lines[4].Text)
	}
	many, err := webservice.ParseLogs([]byte(`{"logs":["` + strings.Repeat(`x","`, 500) + strings.Repeat("y", 5000) + `"]}`))
	if err != nil || len(many) != webservice.MaxLogLines {
		t.Errorf("%d lines, %v", len(many), err)
	}
	long, err := webservice.ParseLogs([]byte(`{"logs":["` + strings.Repeat("y", 5000) + `"]}`))
	plain := func(string) string { return "(masked)" }
	if err != nil || len(long[0].Masked(plain)) > 1024 {
		t.Errorf("a line of %d bytes, %v", len(long[0].Masked(plain)), err)
	}
	device := strings.Repeat("d", 255)
	for _, text := range []string{"Get pass (for device " + device + ", x)", "https://x/v1/devices/" + device + "/registrations",
		strings.Repeat("y", 1000) + " for device " + device} {
		lines, err := webservice.ParseLogs([]byte(`{"logs":["` + text + `"]}`))
		if err != nil || strings.Contains(lines[0].Masked(plain), "dd") {
			t.Errorf("the identifier, or a part, is left: %v", err)
		}
	}
	if _, err := webservice.ParseLogs([]byte(`{"logs":"x"}`)); !errors.Is(err, webservice.ErrBody) {
		t.Error(err)
	}
}
