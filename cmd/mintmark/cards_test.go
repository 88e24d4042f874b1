package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Blank lines are counted, so that lines keep their numbers, and not sent.
func TestBlankLinesAreSkippedAndNumbered(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) != "a\nb" {
			t.Errorf("sent %q", body)
		}
		fmt.Fprint(w, `{"results":["stored","refused: so"]}`)
	}))
	defer srv.Close()
	var out bytes.Buffer
	i := &importing{flags: adminFlags{srv.URL}, tenant: "bank", out: &out, meter: &meter{}}
	err := i.run(context.Background(), strings.NewReader("\na\n\n \nb\n\n"))
	if err == nil || !strings.Contains(out.String(), "line 5: refused: so\n") || !strings.Contains(out.String(), "1 stored, 0 used before, 1 refused") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

// Passes go on until one moves nothing, also when others changed cards meanwhile; what does not
// open is named at the end.
func TestRekeyPassesUntilNothingMoves(t *testing.T) {
	const stuck = `"stuck":[{"tenant":"bank","id":"row-9"}]`
	answers := []string{
		`{"tenant":"bank","id":"row-5","moved":3,` + stuck + `}`, `{"moved":1,"done":true}`, // the first pass
		`{"moved":0,"changed":1,"done":true,` + stuck + `}`, // the last
	}
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if asked = append(asked, string(body)); len(asked) > len(answers) {
			http.Error(w, "asked too often", http.StatusTeapot)
			return
		}
		fmt.Fprint(w, answers[len(asked)-1])
	}))
	defer srv.Close()
	var out bytes.Buffer
	err := (&rekeying{flags: adminFlags{srv.URL}, out: &out, meter: &meter{}}).run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "1 cards do not open") {
		t.Errorf("error is %v", err)
	}
	if !strings.HasPrefix(out.String(), "4 cards moved") || strings.Count(out.String(), "tenant bank, id row-9") != 1 {
		t.Errorf("said %s", out.String())
	}
	if len(asked) != len(answers) || !strings.Contains(asked[1], `"id":"row-5"`) || strings.Contains(asked[2], "row-5") {
		t.Errorf("asked %q", asked)
	}
}
