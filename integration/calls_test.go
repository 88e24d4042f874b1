package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/integration/faultmodule"
)

// calls are numbers of PKCS#11 calls by function.
type calls map[string]uint64

// String is one line a function, sorted.
func (c calls) String() string {
	var lines []string
	for f, n := range c {
		if n != 0 {
			lines = append(lines, fmt.Sprintf("%-20s %d\n", f, n))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// countCalls gives the calls that do makes.
func countCalls(t *testing.T, spy *faultmodule.Module, do func()) calls {
	t.Helper()
	before := spy.Counts()
	do()
	diff := calls{}
	for f, n := range spy.Counts() {
		diff[f] = n - before[f]
	}
	return diff
}

// The calls of one sealed card are few, constant and documented.
func TestCallsOfOneSealedCard(t *testing.T) {
	spy := faultmodule.New(t, module(t))
	s := start(t, t.TempDir(), []string{"--module", spy.Path}, unsigned)
	if a := s.mustPost(s.newRequest()); a.status != 200 {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	got := countCalls(t, spy, func() {
		if a := s.mustPost(s.newRequest()); a.status != 200 {
			t.Fatalf("answered %d: %s", a.status, a.body)
		}
	})
	t.Logf("PKCS#11 calls of one sealed card:\n%s", got)

	seal := got["C_GenerateKeyPair"] + got["C_GetAttributeValue"] + got["C_DeriveKey"] + got["C_DestroyObject"]
	if seal > 9 {
		t.Errorf("the seal takes %d calls beside its digest calls, more than 9", seal)
	}
	// RSA (TAV) takes at most 3, HMAC (card index) 2.
	if n := got["C_SignInit"] + got["C_Sign"]; n > 5 {
		t.Errorf("the two signatures take %d calls, more than 3 and 2", n)
	}
	for f, n := range got {
		if n != 0 && (strings.HasPrefix(f, "C_FindObjects") || f == "C_OpenSession" || f == "C_Login") {
			t.Errorf("%s is called %d times", f, n)
		}
	}
	doc, err := os.ReadFile("../docs/pkcs11.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(doc), "```\n"+got.String()+"```") {
		t.Errorf("docs/pkcs11.md does not hold this table")
	}
}
