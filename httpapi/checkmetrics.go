package httpapi

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// Checks registers what /healthz says, as a metric: an alert names the check that fails, and
// the runbook what to do about it.
func (m *Metrics) Checks(checks []Check) { m.registry.MustRegister(checkCollector{checks}) }

// checkCollector asks once a scrape, within checkWithin.
type checkCollector struct{ checks []Check }

var checkWell = prometheus.NewDesc("mintmark_check_well", "1 while the check of /healthz is well, 0 while it is not.", []string{"check", "required"}, nil)

// Describe is prometheus.Collector's.
func (c checkCollector) Describe(to chan<- *prometheus.Desc) { to <- checkWell }

// Collect is prometheus.Collector's.
func (c checkCollector) Collect(to chan<- prometheus.Metric) {
	_, results := probe(context.Background(), c.checks)
	for _, r := range results {
		well, required := 0.0, "false"
		if r.OK {
			well = 1
		}
		if r.Required {
			required = "true"
		}
		to <- prometheus.MustNewConstMetric(checkWell, prometheus.GaugeValue, well, r.Name, required)
	}
}
