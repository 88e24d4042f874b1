package integration

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/mintmark/mintmark/"

// mayImport are the edges of the house: who may know whom. Packages beside their test
// support count as one.
var mayImport = map[string][]string{
	"internal/secret":                 {},
	"internal/record":                 {},
	"internal/span":                   {},
	"internal/clocktest":              {},
	"internal/freezetest":             {},
	"internal/leaktest":               {},
	"internal/porttest":               {},
	"internal/config":                 {},
	"softhsm":                         {},
	"hsm":                             {"internal/secret", "internal/span"},
	"hsm/conformance":                 {"hsm"},
	"hsm/hsmtest/realtoken":           {"softhsm"},
	"signer":                          {"hsm", "passkit", "passkit/cms", "internal/record", "internal/secret", "internal/span"},
	"internal/audit":                  {"internal/record", "internal/span"},
	"internal/access":                 {"internal/record", "internal/secret"},
	"internal/approval":               {"internal/record", "internal/secret"},
	"internal/merchant":               {"signer", "internal/record", "internal/secret"},
	"internal/outbound":               {},
	"internal/telemetry":              {"internal/outbound", "internal/secret", "internal/span"},
	"internal/keys":                   {"hsm"},
	"internal/ceremony":               {"hsm", "passkit", "passkit/cms"},
	"internal/report":                 {"hsm", "internal/audit"},
	"passkit":                         {"passkit/cms"},
	"passkit/cms":                     {},
	"passkit/apns":                    {},
	"passkit/webservice":              {},
	"passkit/passtest":                {"passkit", "passkit/cms"},
	"internal/provisioning":           {"internal/provisioning/path", "signer", "internal/record", "internal/secret"},
	"internal/provisioning/path":      {},
	"internal/provisioning/connector": {"internal/provisioning", "signer", "internal/outbound", "internal/record", "internal/secret"},
	"internal/provisioning/appletest": {},
	"internal/passes":                 {"passkit", "passkit/cms", "passkit/apns", "passkit/webservice", "signer", "internal/outbound", "internal/record", "internal/secret"},
	"internal/store":                  {"internal/provisioning", "internal/provisioning/path", "internal/merchant", "internal/passes", "passkit/webservice", "internal/audit", "internal/access", "internal/approval", "internal/record"},
	"internal/store/pgtest":           {},
	"bench":                           {},
	"bench/compare":                   {"bench"},
	"bench/floor":                     {"bench/least", "bench/raw", "internal/secret"},
	"bench/least":                     {},
	"bench/raw":                       {"internal/secret"},
	"httpapi/client":                  {},
	"examples/go":                     {"httpapi/client"},
	"httpapi":                         {"internal/approval", "internal/audit", "internal/provisioning", "internal/provisioning/path", "internal/merchant", "internal/passes", "passkit", "passkit/webservice", "signer", "internal/access", "internal/keys", "internal/record", "internal/secret", "internal/span"},
}

// free are the packages that may import anything of ours: commands, test support and
// the end-to-end tests.
func free(name string) bool {
	return strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "integration") || name == "hsm/hsmtest"
}

func TestImportsRunDownward(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", modulePath+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for dec.More() {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, modulePath)
		allowed, known := mayImport[name]
		if !known && !free(name) {
			t.Errorf("%s stands in no room of the house", name)
		}
		for _, imported := range p.Imports {
			ours, ok := strings.CutPrefix(imported, modulePath)
			if ok && !free(name) && !slices.Contains(allowed, ours) {
				t.Errorf("%s imports %s", name, ours)
			}
			pkcs11 := strings.HasPrefix(imported, "github.com/miekg/pkcs11") || strings.HasPrefix(imported, "github.com/ThalesGroup/crypto11")
			if pkcs11 && name != "hsm" && name != "hsm/conformance" { // which plays the operator, and trouble
				t.Errorf("%s imports %s; only hsm may", name, imported)
			}
		}
	}
}

// Only the recorder issues tickets and receipts: whoever else could would sign without
// a record.
func TestOnlyTheRecorderIssuesTickets(t *testing.T) {
	issued := 0
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains([]string{"IssueTicket", "IssueDeferredTicket", "IssueReceipt"}, call.Sel.Name) {
				return true
			}
			issued++
			if filepath.Dir(path) != filepath.Join("..", "internal", "audit") {
				t.Errorf("%s calls %s", path, call.Sel.Name)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if issued != 3 {
		t.Errorf("tickets and receipts are issued in %d places", issued)
	}
}

// What can leave out record and verification is behind a tag that nothing is released with,
// in the files that say so.
func TestBareBuildsAreForMeasuring(t *testing.T) {
	var tagged []string
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || filepath.Dir(path) == "." {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.Contains(string(text), "benchbare") && !strings.HasSuffix(path, "_test.go") {
			tagged = append(tagged, strings.TrimPrefix(filepath.ToSlash(path), "../"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(tagged)
	want := []string{
		"cmd/mintmark/bare_off.go", "cmd/mintmark/bare_on.go", "hsm/verify_off.go", "hsm/verify_on.go",
		"internal/audit/record_off.go", "internal/audit/record_on.go",
	}
	if !slices.Equal(tagged, want) {
		t.Errorf("the tag benchbare stands in %v", tagged)
	}
}
