package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/mintmark/mintmark/internal/access"
)

// Metrics are all of mintmark's Prometheus metrics. Labels are bounded: routes of the
// API, known methods, status codes, operations of the token, classes of its errors.
type Metrics struct {
	registry *prometheus.Registry

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	panics   prometheus.Counter
	refusals *prometheus.CounterVec

	tokenCalls *prometheus.CounterVec
	tokenQueue *prometheus.HistogramVec
	tokenTime  *prometheus.HistogramVec

	passBundles *prometheus.CounterVec
	passPushes  *prometheus.CounterVec
	passStopped *prometheus.GaugeVec
	passLogs    *prometheus.CounterVec

	networkCalls *prometheus.CounterVec

	memberState   *prometheus.GaugeVec
	memberChanges *prometheus.CounterVec
}

// tokenBuckets reach from a software token's symmetric operation to a hung HSM.
var tokenBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// NewMetrics makes and registers the metrics. version stands in mintmark_build_info.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mintmark_http_requests_total", Help: "Requests answered."}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mintmark_http_request_seconds", Help: "Time from the first byte of a request to its answer.", Buckets: tokenBuckets}, []string{"route"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mintmark_http_panics_total", Help: "Handlers that panicked and answered 500."}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mintmark_authentication_refusals_total", Help: "Callers not authenticated, by reason."}, []string{"reason"}),
		tokenCalls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mintmark_token_calls_total", Help: "Units of work given to the token, by outcome: ok, busy, down, or the class of the error."}, []string{"op", "lane", "outcome"}),
		tokenQueue: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mintmark_token_queue_seconds", Help: "Time a unit of work waited for a place on the token.", Buckets: tokenBuckets}, []string{"lane"}),
		tokenTime: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "mintmark_token_seconds", Help: "Time a unit of work spent in the token.", Buckets: tokenBuckets}, []string{"op"}),
	}
	m.passBundles = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mintmark_pass_bundles_total", Help: "Passes served, by where they came from: kept, or signed."}, []string{"from"})
	m.passPushes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mintmark_pass_pushes_total", Help: "Pushes to devices, by outcome."}, []string{"outcome"})
	m.passStopped = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mintmark_pass_push_stopped", Help: "1 while the push service refuses a pass type's certificate: nothing of that type is pushed."}, []string{"type"})
	m.passLogs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mintmark_pass_device_logs_total", Help: "What devices told, by what they were doing."}, []string{"kind"})
	m.registry.MustRegister(m.passBundles, m.passPushes, m.passStopped, m.passLogs)
	m.networkCalls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mintmark_network_calls_total", Help: "Calls to the payment network, by kind and by what came of them."}, []string{"kind", "outcome"})
	m.registry.MustRegister(m.networkCalls)
	m.memberState = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "mintmark_hsm_member_state", Help: "1 for the state an HSM member is in."}, []string{"member", "state"})
	m.memberChanges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mintmark_hsm_member_changes_total", Help: "Changes of an HSM member into a state."}, []string{"member", "state"})
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "mintmark_build_info", Help: "1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version}})
	info.Set(1)
	for _, r := range access.Reasons() {
		m.refusals.WithLabelValues(string(r))
	}
	m.registry.MustRegister(m.requests, m.duration, m.panics, m.refusals, m.tokenCalls, m.tokenQueue, m.tokenTime, m.memberState, m.memberChanges, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Ephemeral registers the counts of session objects that key agreements made and
// destroyed; read gives both.
func (m *Metrics) Ephemeral(read func() (created, destroyed uint64)) {
	m.registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mintmark_ephemeral_objects_created_total", Help: "Session objects made by key agreements."},
			func() float64 { c, _ := read(); return float64(c) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "mintmark_ephemeral_objects_destroyed_total", Help: "Session objects of key agreements destroyed: equal to those made whenever none is under way."},
			func() float64 { _, d := read(); return float64(d) }),
	)
}

// TokenCall counts one unit of work on the token (hsm.Observer).
func (m *Metrics) TokenCall(op, lane string, queued, inToken time.Duration, outcome string) {
	m.tokenCalls.WithLabelValues(op, lane, outcome).Inc()
	m.tokenQueue.WithLabelValues(lane).Observe(queued.Seconds())
	if outcome != "busy" && outcome != "down" {
		m.tokenTime.WithLabelValues(op).Observe(inToken.Seconds())
	}
}

// MemberState counts a change of an HSM member's state (hsm.Observer).
func (m *Metrics) MemberState(member, state string) {
	m.memberState.DeletePartialMatch(prometheus.Labels{"member": member})
	m.memberState.WithLabelValues(member, state).Set(1)
	m.memberChanges.WithLabelValues(member, state).Inc()
}

func (m *Metrics) answered(route, method string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, knownMethod(method), strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}

func (m *Metrics) panicked() { m.panics.Inc() }

func (m *Metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }

func (m *Metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// PassServed counts a pass that was served (passes.Observer).
func (m *Metrics) PassServed(kept bool) {
	from := "signed"
	if kept {
		from = "kept"
	}
	m.passBundles.WithLabelValues(from).Inc()
}

// PassPush counts a push (passes.Observer).
func (m *Metrics) PassPush(outcome string) { m.passPushes.WithLabelValues(outcome).Inc() }

// PassPushStopped says whether a type's pushing is stopped (passes.Observer).
func (m *Metrics) PassPushStopped(passType string, stopped bool) {
	value := 0.0
	if stopped {
		value = 1
	}
	m.passStopped.WithLabelValues(passType).Set(value)
}

// PassDeviceLog counts what a device told (passes.Observer).
func (m *Metrics) PassDeviceLog(kind string) { m.passLogs.WithLabelValues(kind).Inc() }

// NetworkCall counts a call to the payment network (connector.Observer).
func (m *Metrics) NetworkCall(kind, outcome string) {
	m.networkCalls.WithLabelValues(kind, outcome).Inc()
}
