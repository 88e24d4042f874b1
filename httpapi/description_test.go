package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/keys"
)

// adminListener is the admin listener with all its routes.
func adminListener(t *testing.T) *gin.Engine {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	l := logOf(t, 1)
	return NewAdmin(NewMetrics("test"), log, nil, AuditRoutes(l, 0, l, log), KeyRoutes(func(context.Context) keys.Report { return keys.Report{} }),
		ServiceRoute(func(context.Context) any { return nil }), ChangeRoutes(&changes{}, Config{Log: log}), DescriptionRoutes(),
		CardRoutes(&keeper{}, log), EnablementRoutes(&flagKeeper{}, "test", log)).(*gin.Engine)
}

// listeners are those that an operation is described to be on.
func listeners(t *testing.T, op *openapi3.Operation) []string {
	t.Helper()
	said, ok := op.Extensions["x-listeners"].([]any)
	switch {
	case ok:
		var all []string
		for _, one := range said {
			all = append(all, one.(string))
		}
		return all
	case slices.Contains(op.Tags, "admin"):
		return []string{"admin"}
	default:
		return []string{"api"}
	}
}

// Each listener serves what the description says that it does, and nothing else but pages for
// people.
func TestRoutesAndContractAreTheSame(t *testing.T) {
	param := regexp.MustCompile(`[:*]([A-Za-z]+)`)
	forPeople := regexp.MustCompile(`^/(docs|console)(/|$)`)
	for name, engine := range map[string]*gin.Engine{
		"api": newAPI(t, provisioner(seals), func(s *setup) { s.Docs = true }).handler.(*gin.Engine), "admin": adminListener(t),
	} {
		var routed, described []string
		for _, r := range engine.Routes() {
			if r.Method != http.MethodHead && !forPeople.MatchString(r.Path) { // HEAD is described by GET
				routed = append(routed, r.Method+" "+param.ReplaceAllString(r.Path, "{$1}"))
			}
		}
		for path, item := range contract(t).Paths.Map() {
			for method, op := range item.Operations() {
				if slices.Contains(listeners(t, op), name) {
					described = append(described, method+" "+path)
				}
			}
		}
		slices.Sort(routed)
		slices.Sort(described)
		if diff := cmp.Diff(described, routed); diff != "" {
			t.Errorf("openapi.yaml and the routes of %s differ (-described +routed):\n%s", name, diff)
		}
	}
}

// What is served is the file that everything was generated from, in both forms.
func TestDescriptionIsServed(t *testing.T) {
	file, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Handler{"api": newAPI(t, provisioner(seals)).handler, "admin": adminListener(t)} {
		if got := get(h, "/openapi.yaml"); got.status != 200 || got.body != string(file) || got.header.Get("Content-Type") != "application/yaml" {
			t.Errorf("%s answers %d with %d bytes of %s", name, got.status, len(got.body), got.header.Get("Content-Type"))
		}
		got := get(h, "/openapi.json")
		doc, err := openapi3.NewLoader().LoadFromData([]byte(got.body))
		if err != nil || got.status != 200 {
			t.Fatalf("%s answers %d: %v", name, got.status, err)
		}
		if !json.Valid([]byte(got.body)) || !slices.Equal(slices.Sorted(maps.Keys(doc.Paths.Map())), slices.Sorted(maps.Keys(contract(t).Paths.Map()))) {
			t.Errorf("%s has another description in JSON", name)
		}
	}
}

// The page takes everything from where it came from, and a browser is told so.
func TestDocsPage(t *testing.T) {
	api := func(docs bool) http.Handler {
		return newAPI(t, provisioner(seals), func(s *setup) { s.Docs = docs }).handler
	}
	outside := regexp.MustCompile(`(?i)(src|href)="(https?:)?//|<script>|<style|style="|\son[a-z]+="`)
	for name, h := range map[string]http.Handler{"api": api(true), "admin": adminListener(t)} {
		got := get(h, "/docs/")
		if got.status != 200 || outside.MatchString(got.body) || got.header.Get("Content-Security-Policy") != docsPolicy {
			t.Errorf("%s answers %d, %v: %s", name, got.status, got.header, got.body)
		}
		linked := regexp.MustCompile(`(?:src|href)="([^".][^"]*)"`).FindAllStringSubmatch(got.body, -1)
		if len(linked) != len(docsFiles) {
			t.Errorf("the page takes %d files of %d", len(linked), len(docsFiles))
		}
		for _, l := range linked {
			if got := get(h, "/docs/"+l[1]); got.status != 200 || got.header.Get("Content-Type") == "" || len(got.body) < 100 {
				t.Errorf("%s answers %s with %d and %d bytes", name, l[1], got.status, len(got.body))
			}
		}
	}
	if got := get(api(false), "/docs/"); got.status != 404 {
		t.Errorf("an API listener that was not told to shows the page: %d", got.status)
	}
}

// What the page may load comes from its listener, or stands in its style sheet; nothing inline
// runs, and no other page frames it.
func TestDocsPolicyNamesNobodyElse(t *testing.T) {
	said := map[string]bool{}
	for directive := range strings.SplitSeq(docsPolicy, "; ") {
		name, sources, _ := strings.Cut(directive, " ")
		said[name] = true
		if sources != "'none'" && sources != "'self'" && directive != "img-src 'self' data:" {
			t.Errorf("%s lets in %s", name, sources)
		}
	}
	for _, name := range []string{"default-src", "base-uri", "form-action", "frame-ancestors"} { // the last three have no default
		if !said[name] {
			t.Errorf("nothing is said of %s", name)
		}
	}
}

// namesInCode are the problems that the sources have, with the statuses that they come with. The
// console's are none: they are pages for people, without a type.
func namesInCode(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		if !strings.HasSuffix(source, "_test.go") && !strings.HasPrefix(source, "console") {
			problemsIn(t, source, found)
		}
	}
	return found
}

// problemsIn adds those of one file.
func problemsIn(t *testing.T, source string, found map[string]int) {
	t.Helper()
	files := gotoken.NewFileSet()
	tree, err := parser.ParseFile(files, source, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(tree, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || !isProblem(lit) || len(lit.Elts) == 0 {
			return true
		}
		name, code := nameAndStatus(lit)
		if name == "" || code == 0 {
			t.Errorf("%s: a problem of which name or status cannot be told", files.Position(lit.Pos()))
			return true
		}
		if old, twice := found[name]; twice && old != code {
			t.Errorf("%s has the statuses %d and %d", name, old, code)
		}
		found[name] = code
		return true
	})
}

// nameAndStatus are those of a problem; zero where they are not written as a text and as one of
// net/http's names.
func nameAndStatus(lit *ast.CompositeLit) (name string, status int) {
	for _, e := range lit.Elts {
		kv, _ := e.(*ast.KeyValueExpr)
		if kv == nil {
			return "", 0
		}
		switch value := kv.Value.(type) {
		case *ast.BasicLit:
			if isKey(kv, "name") {
				name, _ = strconv.Unquote(value.Value)
			}
		case *ast.SelectorExpr:
			if isKey(kv, "status") {
				status = statusCodes[value.Sel.Name]
			}
		}
	}
	return name, status
}

func isKey(kv *ast.KeyValueExpr, name string) bool {
	id, ok := kv.Key.(*ast.Ident)
	return ok && id.Name == name
}

func isProblem(lit *ast.CompositeLit) bool {
	id, ok := lit.Type.(*ast.Ident)
	return ok && id.Name == "problem"
}

// statusCodes are net/http's names, as far as problems have them.
var statusCodes = map[string]int{
	"StatusBadRequest": 400, "StatusUnauthorized": 401, "StatusForbidden": 403, "StatusNotFound": 404, "StatusMethodNotAllowed": 405,
	"StatusConflict": 409, "StatusPreconditionFailed": 412, "StatusRequestEntityTooLarge": 413, "StatusUnsupportedMediaType": 415,
	"StatusUnprocessableEntity": 422, "StatusTooManyRequests": 429, "StatusInternalServerError": 500, "StatusServiceUnavailable": 503,
}

// The problems of the code, of the description and of docs/problems.md are the same, and so
// are their statuses.
func TestEveryProblemIsDescribedAndDocumented(t *testing.T) {
	inCode := namesInCode(t)
	described := map[string]bool{}
	for _, v := range contract(t).Components.Schemas["Problem"].Value.Properties["type"].Value.Enum {
		described[strings.TrimPrefix(v.(string), problemType)] = true
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(described))); diff != "" {
		t.Errorf("openapi.yaml's list of problems is another (-code +described):\n%s", diff)
	}
	page, err := os.ReadFile("../docs/problems.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]int{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (\\d+) \\| [^|]{10,} \\| [^|]{3,} \\|$").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]], _ = strconv.Atoi(row[2])
	}
	if diff := cmp.Diff(inCode, documented); diff != "" {
		t.Errorf("docs/problems.md has others (-code +documented):\n%s", diff)
	}
}

// An example of a problem stands under the status that it has, and each is used.
func TestProblemExamplesStandWhereTheyCanCome(t *testing.T) {
	inCode := namesInCode(t)
	used := map[string]bool{}
	for path, item := range contract(t).Paths.Map() {
		for method, op := range item.Operations() {
			for status, r := range op.Responses.Map() {
				media := r.Value.Content.Get("application/problem+json")
				if media == nil {
					continue
				}
				if len(media.Examples) == 0 {
					t.Errorf("%s %s: %s has no example", method, path, status)
				}
				for name, e := range media.Examples {
					value := e.Value.Value.(map[string]any)
					kind := strings.TrimPrefix(value["type"].(string), problemType)
					used[kind] = true
					if fmt.Sprint(inCode[kind]) != status || fmt.Sprint(value["status"]) != status {
						t.Errorf("%s %s: example %s of %s is a %d", method, path, name, status, inCode[kind])
					}
				}
			}
		}
	}
	delete(inCode, "method-not-allowed") // belongs to no operation
	if diff := cmp.Diff(slices.Sorted(maps.Keys(inCode)), slices.Sorted(maps.Keys(used))); diff != "" {
		t.Errorf("problems without an example (-code +used):\n%s", diff)
	}
}
