package httpapi

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mintmark/mintmark/internal/audit"
)

// Audit registers the audit log's figures; read gives them.
func (m *Metrics) Audit(read func() audit.Stats) { m.registry.MustRegister(auditCollector{read}) }

// auditCollector reads the figures once a scrape.
type auditCollector struct{ read func() audit.Stats }

var (
	auditEntries = prometheus.NewDesc("mintmark_audit_entries", "Entries in the audit log that the process writes.", nil, nil)
	unsigned     = prometheus.NewDesc("mintmark_audit_unsigned_entries", "Entries without a checkpoint.", nil, nil)
	unsignedAge  = prometheus.NewDesc("mintmark_audit_unsigned_seconds", "Age of the oldest entry without a checkpoint.", nil, nil)
	signed       = prometheus.NewDesc("mintmark_audit_checkpoints_total", "Checkpoints signed.", nil, nil)
	unsignable   = prometheus.NewDesc("mintmark_audit_checkpoint_failures_total", "Tries that made no checkpoint.", nil, nil)
	anchored     = prometheus.NewDesc("mintmark_audit_anchored_entries", "Entries that the anchor's last checkpoint covers.", []string{"anchor"}, nil)
	unanchored   = prometheus.NewDesc("mintmark_audit_anchor_failures_total", "Tries that the anchor did not take.", []string{"anchor"}, nil)
)

// Describe is prometheus.Collector's.
func (a auditCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{auditEntries, unsigned, unsignedAge, signed, unsignable, anchored, unanchored} {
		to <- d
	}
}

// Collect is prometheus.Collector's.
func (a auditCollector) Collect(to chan<- prometheus.Metric) {
	s := a.read()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(auditEntries, float64(s.Entries))
	gauge(unsigned, float64(s.Unsigned))
	gauge(unsignedAge, s.UnsignedAge.Seconds())
	counter(signed, s.Made)
	counter(unsignable, s.Failed)
	for _, k := range s.Anchors {
		gauge(anchored, float64(k.Size), k.Name)
		counter(unanchored, k.Failed, k.Name)
	}
}
