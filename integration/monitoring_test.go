package integration

import (
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/httpapi"
)

// The alerts and the dashboard name metrics and labels that a running server has, the alerts
// parts of the runbook that are there; and no metric is without a place in either.
func TestAlertsAndDashboardShowWhatThereIs(t *testing.T) {
	t.Parallel()
	have := scraped(t)
	named := map[string]bool{}
	anchors := headings(readFile(t, filepath.Join("..", "docs", "runbook.md")))

	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join("..", "deploy", "prometheus", "alerts.yaml"))), &rules); err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, group := range rules.Groups {
		for _, r := range group.Rules {
			alerts++
			checkQuery(t, have, named, r.Alert, r.Expr)
			_, anchor, _ := strings.Cut(r.Annotations["runbook_url"], "docs/runbook.md#")
			if !anchors[anchor] {
				t.Errorf("%s: the runbook has no part %q", r.Alert, anchor)
			}
		}
	}

	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, filepath.Join("..", "deploy", "grafana", "mintmark.json"))), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			checkQuery(t, have, named, p.Title, target.Expr)
		}
	}
	if alerts < 20 || len(board.Panels) < 15 {
		t.Errorf("%d alerts and %d panels were looked at", alerts, len(board.Panels))
	}
	for name := range have {
		if strings.HasPrefix(name, "mintmark_") && !named[name] {
			t.Errorf("%s is in no alert and on no panel", name)
		}
	}
}

var (
	// metricLine is a line of /metrics: name and labels.
	metricLine = regexp.MustCompile(`(?m)^([a-z_]+)(?:\{([^}]*)\})? `)
	// metricAsked is a metric in a query, with its matchers.
	metricAsked = regexp.MustCompile(`\b((?:mintmark|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	groupedBy   = regexp.MustCompile(`\b(?:by|on) \(([^)]*)\)`)
	labelNamed  = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`)
	pageHeading = regexp.MustCompile(`(?m)^##+ (.*)$`)
	notInAnchor = regexp.MustCompile(`[^a-z0-9_ -]`)
)

// histogramParts are what a histogram's name ends with.
var histogramParts = regexp.MustCompile(`_(bucket|sum|count)$`)

// scraped gives the metrics of servers that have done everything once, with their labels.
func scraped(t *testing.T) map[string]map[string]bool {
	t.Helper()
	s := start(t, t.TempDir(), nil, []string{newCollector(t).environment(), "MINTMARK_LOG_LEVEL=warn"})
	if out, err := exec.Command(mintmark, "demo", "--data", s.dir).CombinedOutput(); err != nil {
		t.Fatalf("demo: %v\n%s", err, out)
	}
	have := map[string]map[string]bool{}
	add := func(metrics string) {
		for _, m := range metricLine.FindAllStringSubmatch(metrics, -1) {
			name := m[1]
			if base := histogramParts.ReplaceAllString(name, ""); strings.HasPrefix(base, "mintmark_") {
				name = base
			}
			if have[name] == nil {
				have[name] = map[string]bool{}
			}
			for _, l := range labelNamed.FindAllStringSubmatch(m[2], -1) {
				have[name][l[1]] = true
			}
		}
	}
	if a := s.get(s.info.BaseURL + "/nowhere"); a.status != http.StatusNotFound {
		t.Fatalf("answered %d", a.status)
	}
	add(string(s.get(s.info.AdminURL + "/metrics").body))
	// The figures of anchors: of a site that has one.
	site := newSite(t, hsm.MerchantJWT, hsm.AuditCheckpoint)
	site.configure("roles: [merchant]\nmerchant: {audFingerprints: [" + fingerprint + "]}\naudit: {anchors: [{file: anchor}]}\napi: {listen: \"127.0.0.1:0\"}\n")
	srv := site.serve()
	add(string(srv.get(srv.info.AdminURL + "/metrics").body))
	// What needs Apple's push service, or a telephone.
	m := httpapi.NewMetrics("v")
	m.PassPush("sent")
	m.PassPushStopped("pass.example", true)
	m.PassDeviceLog("other")
	answered := httptest.NewRecorder()
	httpapi.NewAdmin(m, slog.New(slog.DiscardHandler), nil).ServeHTTP(answered, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	add(answered.Body.String())
	return have
}

// checkQuery holds a query against the metrics that there are, and notes which it names.
func checkQuery(t *testing.T, have map[string]map[string]bool, named map[string]bool, where, expr string) {
	t.Helper()
	labels := map[string]bool{"instance": true, "job": true, "le": true} // Prometheus' own
	for _, m := range metricAsked.FindAllStringSubmatch(expr, -1) {
		name := m[1]
		if base := histogramParts.ReplaceAllString(name, ""); have[base] != nil {
			name = base
		}
		if have[name] == nil {
			t.Errorf("%s: there is no metric %s", where, m[1])
			continue
		}
		named[name] = true
		maps.Copy(labels, have[name])
		for _, l := range labelNamed.FindAllStringSubmatch(m[2], -1) {
			if !have[name][l[1]] && !slices.Contains([]string{"instance", "job"}, l[1]) {
				t.Errorf("%s: %s has no label %s", where, name, l[1])
			}
		}
	}
	for _, m := range groupedBy.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(m[1], ",") {
			if !labels[strings.TrimSpace(l)] {
				t.Errorf("%s: nothing there has the label %s", where, l)
			}
		}
	}
}

// headings gives the anchors of a page, as GitHub makes them.
func headings(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range pageHeading.FindAllStringSubmatch(page, -1) {
		text := notInAnchor.ReplaceAllString(strings.ToLower(m[1]), "")
		all[strings.ReplaceAll(text, " ", "-")] = true
	}
	return all
}
