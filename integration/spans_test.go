package integration

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	traces "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes traces as OpenTelemetry's does.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*traces.Span
	raw   bytes.Buffer
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	r := &collector{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the server ended while it sent
		}
		data := &traces.TracesData{}
		if req.URL.Path != "/v1/traces" || proto.Unmarshal(body, data) != nil {
			w.WriteHeader(http.StatusBadRequest)
			t.Errorf("not what a collector takes: %s", req.URL.Path)
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.raw.Write(body)
		for _, of := range data.ResourceSpans {
			for _, in := range of.ScopeSpans {
				r.spans = append(r.spans, in.Spans...)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// environment has a server send its traces there.
func (r *collector) environment() string { return "MINTMARK_TRACING_ENDPOINT=" + r.URL }

// tree draws the trace with this number: a line for each span, in the order of their beginnings,
// under the one that it hangs under.
func (r *collector) tree(t *testing.T, id string) []string {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	var draw func(parent []byte, depth int)
	draw = func(parent []byte, depth int) {
		var under []*traces.Span
		for _, s := range r.spans {
			if hex.EncodeToString(s.TraceId) == id && bytes.Equal(s.ParentSpanId, parent) {
				under = append(under, s)
			}
		}
		slices.SortFunc(under, func(a, b *traces.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
		for _, s := range under {
			line := strings.Repeat("  ", depth) + s.Name
			for _, a := range s.Attributes {
				line += " " + textOf(a.Value)
			}
			lines = append(lines, line)
			draw(s.SpanId, depth+1)
		}
	}
	draw(nil, 0)
	return lines
}

// textOf is a value in words.
func textOf(v *common.AnyValue) string {
	if v.GetStringValue() == "" {
		return strconv.FormatInt(v.GetIntValue(), 10)
	}
	return v.GetStringValue()
}

// One sealed card, from HTTP to the calls of the token, also where the module has a process of
// its own; and the line of the log by which its trace is found.
func TestATraceReachesFromTheRequestToTheToken(t *testing.T) {
	t.Parallel()
	r := newCollector(t)
	s := start(t, t.TempDir(), nil, []string{r.environment(), "MINTMARK_HSM_ISOLATION=process", "MINTMARK_LOG_FORMAT=json"})
	if a := s.mustPost(s.newRequest()); a.status != http.StatusOK {
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	refused := s.mustPost(s.newRequest().with(request{"walletType": "OTHER"}))
	var ids []string
	eventually(t, patience, func() error {
		if ids = tracesOf(s, "signed-cards"); len(ids) != 2 {
			return fmt.Errorf("the log names the traces %v", ids)
		}
		return nil
	})
	// Every few seconds what there is goes; at its end the server waits for the collector no
	// longer than two.
	eventually(t, patience, func() error {
		for _, id := range ids {
			if len(r.tree(t, id)) == 0 {
				return errors.New("not all traces have come")
			}
		}
		return nil
	})
	s.stop()

	want := []string{
		"POST /issuer/push-provisioning/signed-cards POST /issuer/push-provisioning/signed-cards 200",
		"  authenticate",
		"  push-provisioning.sign-card",
		"    record.commit intent",
		"    gate.card-index",
		"      hsm.hmac dev C_Sign CKM_SHA256_HMAC ok",
		"    gate.open-vault",
		"      hsm.decrypt dev C_Decrypt CKM_AES_GCM ok",
		"    gate.seal-ecc-v2",
		"      hsm.agree-and-seal dev C_DeriveKey CKM_ECDH1_DERIVE ok",
		"    gate.sign-tav",
		"      hsm.sign dev C_Sign CKM_RSA_PKCS ok",
		"    record.commit result",
	}
	if diff := cmp.Diff(want, r.tree(t, ids[0])); diff != "" {
		t.Errorf("sealed (-want +got):\n%s", diff)
	}
	want = []string{
		fmt.Sprintf("POST /issuer/push-provisioning/signed-cards POST /issuer/push-provisioning/signed-cards %d %s", refused.status, refused.problem()),
		"  authenticate",
		"  push-provisioning.sign-card",
		"    record.commit refusal",
	}
	if diff := cmp.Diff(want, r.tree(t, ids[1])); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
}

// tracesOf gives the traces that lines of the log about a route name, in order.
func tracesOf(s *server, route string) []string {
	var ids []string
	for line := range strings.Lines(s.stderr.String()) {
		_, after, ok := strings.Cut(line, `"traceId":"`)
		if ok && strings.Contains(line, route) {
			id, _, _ := strings.Cut(after, `"`)
			ids = append(ids, id)
		}
	}
	return ids
}
