package integration

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	metricRow  = regexp.MustCompile("(?m)^\\| `(mintmark_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|")
	metricType = regexp.MustCompile(`(?m)^# TYPE (mintmark_[a-z_]+) ([a-z]+)$`)
	sample     = regexp.MustCompile(`(?m)^(mintmark_[a-z_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`(?:^|,)([a-z_]+)="`)
)

// What a server serves as metrics is on the page of metrics, of the kind and with the labels
// that it says.
func TestServedMetricsAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	type row struct{ kind, labels string }
	page := map[string]row{}
	for _, m := range metricRow.FindAllStringSubmatch(readFile(t, filepath.Join("..", "docs", "metrics.md")), -1) {
		page[m[1]] = row{m[2], strings.NewReplacer("`", "", " ", "").Replace(m[3])}
	}
	s := start(t, t.TempDir(), nil, nil)
	s.send("/issuer/push-provisioning/signed-cards", s.info.Clients.Issuer.Token, s.newRequest())
	s.send("/v1/merchant-tokens", "nobody's", map[string]any{})
	text := string(s.get(s.info.AdminURL + "/metrics").body)
	kinds := map[string]string{}
	for _, m := range metricType.FindAllStringSubmatch(text, -1) {
		kinds[m[1]] = m[2]
		if page[m[1]].kind != m[2] {
			t.Errorf("%s is served as a %s; the page has it as %q", m[1], m[2], page[m[1]].kind)
		}
	}
	if len(kinds) < 15 {
		t.Errorf("only %d metrics are served:\n%s", len(kinds), text)
	}
	for _, m := range sample.FindAllStringSubmatch(text, -1) {
		name := m[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, ok := strings.CutSuffix(name, suffix); ok && kinds[base] == "histogram" {
				name = base
			}
		}
		for _, label := range labelName.FindAllStringSubmatch(m[2], -1) {
			if label[1] != "le" && !strings.Contains(","+page[name].labels+",", ","+label[1]+",") {
				t.Errorf("%s has the label %s, and on the page %q", name, label[1], page[name].labels)
			}
		}
	}
}
