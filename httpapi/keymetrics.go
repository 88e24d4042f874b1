package httpapi

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mintmark/mintmark/internal/keys"
)

// Keys registers what is left of the keys' time, and what they were used for.
func (m *Metrics) Keys(expiries func() []keys.Expiry, uses func() []keys.Use) {
	m.registry.MustRegister(keyCollector{expiries, uses})
}

// keyCollector reads once a scrape. Its labels are the keyring's names.
type keyCollector struct {
	expiries func() []keys.Expiry
	uses     func() []keys.Use
}

var (
	keyDays = prometheus.NewDesc("mintmark_key_days_left", "Whole days until the key's cryptoperiod or certificate ends, of keys that are active or next; negative when it is past.", []string{"key", "purpose", "state", "what"}, nil)
	keyUses = prometheus.NewDesc("mintmark_key_uses_total", "Units of work given to the key.", []string{"key", "purpose"}, nil)
)

// Describe is prometheus.Collector's.
func (c keyCollector) Describe(to chan<- *prometheus.Desc) {
	to <- keyDays
	to <- keyUses
}

// Collect is prometheus.Collector's.
func (c keyCollector) Collect(to chan<- prometheus.Metric) {
	for _, e := range c.expiries() {
		to <- prometheus.MustNewConstMetric(keyDays, prometheus.GaugeValue, float64(e.DaysLeft), e.Key, string(e.Purpose), string(e.State), e.What)
	}
	for _, u := range c.uses() {
		to <- prometheus.MustNewConstMetric(keyUses, prometheus.CounterValue, float64(u.Times), u.Key, string(u.Purpose))
	}
}
