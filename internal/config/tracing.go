package config

// Tracing sends traces of requests, from HTTP to the PKCS#11 call, to an OpenTelemetry
// receiver (docs/tracing.md). Without an endpoint there is none of it.
type Tracing struct {
	// Endpoint is the receiver's URL for OTLP over HTTP: https://, or http:// with an address
	// of this host's own, such as http://127.0.0.1:4318. /v1/traces is added where it has no
	// path. Over https, outbound.allowPrivate and outbound.caFile hold as for everything else.
	// Default none.
	Endpoint string `yaml:"endpoint"`
	// Percent is how many requests of a hundred are traced. Default 100.
	Percent int `yaml:"percent"`
	// AcceptParent goes on with the trace that a caller's traceparent header names, and with
	// its decision whether to keep it. Callers are not authenticated yet when that is read: for
	// listeners that only one's own gateway can reach. Default false: each request begins a
	// trace of its own.
	AcceptParent bool `yaml:"acceptParent"`
}

func (t *Tracing) defaults() { setDefault(&t.Percent, 100) }

func (t Tracing) check(w *wrongs) {
	if t.Percent < 1 || t.Percent > 100 {
		w.say("tracing.percent", "must be 1 to 100")
	}
}
