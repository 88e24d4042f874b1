package httpapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/audit"
)

// fakeLog is a log in memory.
type fakeLog struct {
	rows        []audit.Row
	checkpoints []audit.Checkpoint
	others      map[int][]audit.Checkpoint // of the logs beside it
	asked       int                        // for a log's last checkpoint
	err         error
}

func (l *fakeLog) Size(context.Context) (uint64, error) { return uint64(len(l.rows)), l.err }

func (l *fakeLog) Rows(_ context.Context, from uint64, limit int) ([]audit.Row, error) {
	from = min(from, uint64(len(l.rows)))
	return l.rows[from:min(int(from)+limit, len(l.rows))], l.err
}

func (l *fakeLog) Checkpoints(_ context.Context, from uint64, limit int) ([]audit.Checkpoint, error) {
	var all []audit.Checkpoint
	for _, c := range l.checkpoints {
		if c.Size >= from && len(all) < limit {
			all = append(all, c)
		}
	}
	return all, l.err
}

func (l *fakeLog) Latest() (audit.Checkpoint, bool) {
	if len(l.checkpoints) == 0 {
		return audit.Checkpoint{}, false
	}
	return l.checkpoints[len(l.checkpoints)-1], true
}

// There is another log beside it, mint-a.
func (l *fakeLog) Logs(context.Context) ([]audit.LogInfo, error) {
	return []audit.LogInfo{{}, {Number: 1, Name: "mint-a", Origin: "mintmark/test/mint-a"}}, l.err
}

func (l *fakeLog) LogAt(number int) audit.Source {
	if number == 0 {
		return l
	}
	return &fakeLog{checkpoints: l.others[number], err: l.err}
}

func (l *fakeLog) LastOf(_ context.Context, number int) (audit.Checkpoint, bool, error) {
	l.asked++
	k, ok := l.LogAt(number).(*fakeLog).Latest()
	return k, ok, l.err
}

// logOf is a log of n entries with a checkpoint whose signature nobody looks at.
func logOf(t testing.TB, n int) *fakeLog {
	t.Helper()
	l, tree := &fakeLog{}, audit.NewTree(0, nil)
	for range n {
		l.rows = append(l.rows, audit.NewRow(audit.Entry{At: time.UnixMilli(1000).UTC(), Kind: audit.KindRefusal, Tenant: "b<nk", Body: []byte(`{"reason":"x"}`)}, tree))
	}
	note := "mintmark/test\n" + itoa(n) + "\n" + tree.Root().String() + "\n\n— mintmark/test AAAAAAAA\n"
	c, err := audit.ParseCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	c.At = time.UnixMilli(2000).UTC()
	l.checkpoints = append(l.checkpoints, c)
	return l
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestCheckpointIsPublished(t *testing.T) {
	l := logOf(t, 3)
	h := New(Config{Groups: []Group{KeysGroup}, Checkpoints: l, Metrics: NewMetrics("test"), Log: slog.New(slog.DiscardHandler), RequestTimeout: time.Second, Stopping: context.Background()})
	got := get(h, "/v1/audit/checkpoint")
	if got.status != http.StatusOK || got.body != l.checkpoints[0].Note || got.header.Get("Content-Type") != noteType {
		t.Errorf("answered %d %s: %q", got.status, got.header.Get("Content-Type"), got.body)
	}
	l.checkpoints = nil
	got = get(h, "/v1/audit/checkpoint")
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("without a checkpoint it answers %d", got.status)
	}
}

// With several servers on a database each gives the last checkpoint of any log, by its name or
// its number, and asks the database for all of them once a second.
func TestCheckpointOfAnotherLogIsPublished(t *testing.T) {
	l := logOf(t, 3)
	l.others = map[int][]audit.Checkpoint{1: logOf(t, 7).checkpoints}
	now := time.UnixMilli(0)
	var said strings.Builder
	h := New(Config{
		Groups: []Group{KeysGroup}, Checkpoints: l, Published: &Published{Logs: l, Now: func() time.Time { return now }},
		Metrics: NewMetrics("test"), Log: slog.New(slog.NewTextHandler(&said, nil)), RequestTimeout: time.Second, Stopping: context.Background(),
	})
	for log, want := range map[string]int{"mint-a": 1, "1": 1, "0": 0, "": 0, "mint-b": -1, "2": -1, "01": -1} {
		got := get(h, "/v1/audit/checkpoint?log="+log)
		switch {
		case want < 0 && got.status != http.StatusNotFound:
			t.Errorf("%s: %d %s", log, got.status, got.body)
		case want == 0 && got.body != l.checkpoints[0].Note, want == 1 && got.body != l.others[1][0].Note:
			t.Errorf("%s: %d %s", log, got.status, got.body)
		}
	}
	if l.asked != 2 { // once for each log
		t.Errorf("the database was asked %d times", l.asked)
	}
	now = now.Add(time.Second)
	l.others[1] = logOf(t, 8).checkpoints
	if got := get(h, "/v1/audit/checkpoint?log=mint-a"); got.body != l.others[1][0].Note {
		t.Errorf("a second later: %d %s", got.status, got.body)
	}
	now = now.Add(time.Second)
	l.err = errors.New("canary")
	if got := get(h, "/v1/audit/checkpoint?log=mint-a"); got.status != http.StatusInternalServerError || strings.Contains(got.body, "canary") {
		t.Errorf("without the database: %d %s", got.status, got.body)
	}
	if !strings.Contains(said.String(), "canary") {
		t.Error("the answer sends to the log, which does not say what is wrong")
	}
	if got := get(h, "/v1/audit/checkpoint"); got.body != l.checkpoints[0].Note {
		t.Errorf("the own, without the database: %d %s", got.status, got.body)
	}
}

// The admin listener gives every log of the database.
func TestAdminShowsTheOtherLogs(t *testing.T) {
	l := logOf(t, 5)
	l.others = map[int][]audit.Checkpoint{1: logOf(t, 7).checkpoints}
	h := adminWith(l)
	for path, want := range map[string]string{
		"/v1/audit/logs":                     `{"own":0,"logs":[{"log":0},{"log":1,"name":"mint-a","origin":"mintmark/test/mint-a"}]}`,
		"/v1/audit/checkpoint?log=mint-a":    l.others[1][0].Note,
		"/v1/audit/checkpoint?log=0":         l.checkpoints[0].Note,
		"/v1/audit/entries?log=1":            "",
		"/v1/audit/checkpoints?log=1&from=8": "",
	} {
		if got := get(h, path); got.status != http.StatusOK || strings.TrimSpace(got.body) != strings.TrimSpace(want) {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := get(h, "/v1/audit?log=mint-a"); got.status != http.StatusOK || !strings.Contains(got.body, `"log":1,"size":0`) {
		t.Errorf("state: %d %s", got.status, got.body)
	}
	for _, path := range []string{"", "/checkpoint", "/entries", "/checkpoints", "/tile/0/000.p/5"} {
		for _, log := range []string{"mint-b", "99", "2", "01", "-1", "99999999999"} {
			got := get(h, "/v1/audit"+path+"?log="+log)
			got.expect(t, http.StatusNotFound, "no-such-resource")
			if !strings.Contains(got.body, "GET /v1/audit/logs on the admin listener lists them") {
				t.Errorf("%s of the log %s, which is not there: %s", path, log, got.body)
			}
		}
	}
	l.others = nil
	if got := get(h, "/v1/audit/checkpoint?log=1"); got.status != http.StatusNotFound || !strings.Contains(got.body, "has a checkpoint") {
		t.Errorf("the checkpoint of a log without one: %d %s", got.status, got.body)
	}
}

func adminWith(l *fakeLog) http.Handler { return adminSaying(l, io.Discard) }

// adminSaying logs to a writer.
func adminSaying(l *fakeLog, to io.Writer) http.Handler {
	return NewAdmin(NewMetrics("test"), slog.New(slog.DiscardHandler), nil, AuditRoutes(l, 0, l, slog.New(slog.NewTextHandler(to, nil))))
}

func TestAdminShowsTheLog(t *testing.T) {
	l := logOf(t, 5)
	var said strings.Builder
	h := adminSaying(l, &said)
	for path, want := range map[string]int{
		"/v1/audit/entries": 5, "/v1/audit/entries?from=3": 2, "/v1/audit/entries?from=1&limit=2": 2,
		"/v1/audit/entries?from=5": 0, "/v1/audit/checkpoints": 1, "/v1/audit/checkpoints?from=6": 0,
	} {
		got := get(h, path)
		lines := strings.Count(got.body, "\n")
		if got.status != http.StatusOK || lines != want {
			t.Errorf("%s: %d with %d lines, want %d", path, got.status, lines, want)
		}
		for line := range strings.Lines(got.body) {
			if _, err := audit.ParseLine([]byte(line)); err != nil {
				t.Errorf("%s: %q: %v", path, line, err)
			}
		}
	}
	for _, path := range []string{"/v1/audit/entries?from=-1", "/v1/audit/entries?from=x", "/v1/audit/entries?limit=0", "/v1/audit/checkpoints?limit=x"} {
		if got := get(h, path); got.status != http.StatusBadRequest {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if got := get(h, "/v1/audit"); got.status != http.StatusOK || !strings.Contains(got.body, `"size":5`) {
		t.Errorf("state: %d %s", got.status, got.body)
	}
	l.err = errors.New("canary")
	for _, path := range []string{"/v1/audit", "/v1/audit/logs", "/v1/audit/entries", "/v1/audit/checkpoints", "/v1/audit/tile/0/000.p/5"} {
		said.Reset()
		got := get(h, path)
		if got.status != http.StatusInternalServerError || strings.Contains(got.body, "canary") {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
		if id := got.problem(t).RequestID; id == "" || !strings.Contains(said.String(), id) || !strings.Contains(said.String(), "canary") {
			t.Errorf("%s: the log does not say what the answer sends there for: %s", path, said.String())
		}
	}
}

// The tiles hold what c2sp.org/tlog-tiles says, so that any client of it can make proofs.
func TestTilesAreThoseOfTheSpecification(t *testing.T) {
	const n = 600 // two full tiles and a part, and a part of the level above
	l := logOf(t, n)
	h := adminWith(l)
	leaf := func(i int) []byte { h := l.rows[i].LeafHash(); return h[:] }
	level1 := func(i int) []byte {
		tree := audit.NewTree(0, nil)
		for j := range 256 {
			tree.Add(tlog.Hash(leaf(i*256 + j)))
		}
		root := tree.Root()
		return root[:]
	}
	join := func(from, to int, of func(int) []byte) (b []byte) {
		for i := from; i < to; i++ {
			b = append(b, of(i)...)
		}
		return b
	}
	for path, want := range map[string][]byte{
		"0/000": join(0, 256, leaf), "0/001": join(256, 512, leaf), "0/002.p/88": join(512, 600, leaf), "0/002.p/7": join(512, 519, leaf),
		"1/000.p/2": join(0, 2, level1), "1/000.p/1": join(0, 1, level1),
	} {
		got := get(h, "/v1/audit/tile/"+path)
		if got.status != http.StatusOK || !bytes.Equal([]byte(got.body), want) {
			t.Errorf("%s: %d with %d bytes, want %d", path, got.status, len(got.body), len(want))
		}
	}
	for _, path := range []string{"0/002", "0/002.p/89", "0/003.p/1", "1/000", "1/000.p/3", "2/000.p/1", "63/000", "7/x999/x999/x999/x999/x999/999", "0/0", "x", "", "entries/003.p/1", "-1/000"} {
		if got := get(h, "/v1/audit/tile/"+path); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	bundle := []byte(get(h, "/v1/audit/tile/entries/002.p/88").body)
	for i := 512; i < n; i++ {
		if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
			t.Fatalf("the bundle ends before entry %d", i)
		}
		data := bundle[2 : 2+binary.BigEndian.Uint16(bundle)]
		bundle = bundle[2+len(data):]
		if !bytes.Equal(rfc6962.DefaultHasher.HashLeaf(data), leaf(i)) {
			t.Fatalf("entry %d of the bundle is not the leaf", i)
		}
	}
	if len(bundle) != 0 {
		t.Errorf("%d bytes more", len(bundle))
	}
}

func TestAuditFiguresAreMetrics(t *testing.T) {
	m := NewMetrics("test")
	m.Audit(func() audit.Stats {
		return audit.Stats{Entries: 7, Unsigned: 2, UnsignedAge: 1500 * time.Millisecond, Made: 5, Failed: 1, Anchors: []audit.AnchorStats{{Name: "file /a", Size: 5, Failed: 3}}}
	})
	rec := httptest.NewRecorder()
	NewAdmin(m, slog.New(slog.DiscardHandler), nil).(*gin.Engine).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		"mintmark_audit_entries 7", "mintmark_audit_unsigned_entries 2", "mintmark_audit_unsigned_seconds 1.5", "mintmark_audit_checkpoints_total 5",
		"mintmark_audit_checkpoint_failures_total 1", `mintmark_audit_anchored_entries{anchor="file /a"} 5`, `mintmark_audit_anchor_failures_total{anchor="file /a"} 3`,
	} {
		if !strings.Contains(rec.Body.String(), line+"\n") {
			t.Errorf("no %q", line)
		}
	}
}
