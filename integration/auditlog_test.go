package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/store"
)

// offHost is a syslog server on another host, as far as mintmark can tell: it keeps the
// last checkpoint.
type offHost struct {
	net.Listener
	mu   sync.Mutex
	last audit.Checkpoint
}

func newOffHost(t *testing.T) *offHost {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &offHost{Listener: l}
	go h.accept()
	t.Cleanup(func() { _ = l.Close() })
	return h
}

func (h *offHost) accept() {
	for {
		conn, err := h.Accept()
		if err != nil {
			return
		}
		go h.read(conn)
	}
}

// read reads messages framed by their length (RFC 6587).
func (h *offHost) read(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for r := bufio.NewReader(conn); ; {
		var n int
		if _, err := fmt.Fscanf(r, "%d ", &n); err != nil {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(r, message); err != nil {
			return
		}
		if kept, err := audit.Anchored(bytes.NewReader(message)); len(kept) != 0 && err == nil {
			h.mu.Lock()
			h.last = kept[len(kept)-1]
			h.mu.Unlock()
		}
	}
}

// covers waits until the anchor has a checkpoint of at least a size, and writes it to a
// file.
func (h *offHost) covers(t *testing.T, size uint64) (file string) {
	t.Helper()
	var c audit.Checkpoint
	eventually(t, patience, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if c = h.last; c.Size < size {
			return fmt.Errorf("the anchor has a checkpoint of %d entries, want %d", c.Size, size)
		}
		return nil
	})
	file = filepath.Join(t.TempDir(), "anchor")
	if err := os.WriteFile(file, []byte(c.Note), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// startServe runs mintmark serve on a development directory that was made before, with
// more of a configuration, and waits until it is ready.
func startServe(t *testing.T, dir, more string, env ...string) *server {
	t.Helper()
	base, err := os.ReadFile(filepath.Join(dir, "mintmark.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "serve.yaml")
	if err := os.WriteFile(path, append(base, more...), 0o600); err != nil {
		t.Fatal(err)
	}
	s := process(t, env, "serve", "--config", path)
	s.dir = dir
	s.await(func() bool { return s.isUp(s.stderr.String()) })
	return s
}

// like takes over what dev.json said of the directory.
func (s *server) like(dev *server) *server {
	at := s.info
	s.info = dev.info
	s.info.BaseURL, s.info.AdminURL = at.BaseURL, at.AdminURL
	return s
}

// mustSeal seals n cards.
func (s *server) mustSeal(n int) {
	s.t.Helper()
	for range n {
		if a := s.mustPost(s.newRequest()); a.status != 200 {
			s.t.Fatalf("answered %d: %s", a.status, a.body)
		}
	}
}

// size is the number of entries in the log.
func (s *server) size() uint64 {
	s.t.Helper()
	return uint64(s.count(`SELECT COUNT(*) FROM audit_entries`))
}

// briefly is one of mintmark's that ends by itself.
func briefly(args ...string) *exec.Cmd {
	c := exec.Command(mintmark, args...)
	c.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // or each would take a second more
	return c
}

// auditVerify runs mintmark audit verify and gives what it said.
func auditVerify(t *testing.T, args ...string) (out string, ok bool) {
	t.Helper()
	b, err := briefly(append([]string{"audit", "verify"}, args...)...).CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return string(b), err == nil
}

// The database and every local file are restored to an older state: nothing on the host
// shows it, and the service runs on it. The checkpoint that was kept elsewhere shows it.
func TestRollbackOfEverythingIsShownOffTheHost(t *testing.T) {
	dir := t.TempDir()
	dev := start(t, dir, nil, nil)
	dev.stop()
	away := newOffHost(t)
	more := fmt.Sprintf("audit:\n  anchors:\n    - file: anchor.jsonl\n    - syslog: tcp://%s\n", away.Addr())
	s := startServe(t, dir, more).like(dev)
	s.mustSeal(2)
	early := away.covers(t, s.size())
	s.stop()
	saved := filepath.Join(t.TempDir(), "saved")
	copyTree(t, dir, saved)

	s = startServe(t, dir, more).like(dev)
	s.mustSeal(3)
	before := s.size()
	late := away.covers(t, before)
	s.stop()
	config := filepath.Join(dir, "serve.yaml")
	for _, anchor := range []string{early, late, filepath.Join(dir, "anchor.jsonl")} {
		if out, ok := auditVerify(t, "--config", config, "--anchor", anchor); !ok {
			t.Errorf("before the rollback: %s", out)
		}
	}

	// The database alone goes back: the anchor's file shows it at the next start.
	for _, name := range []string{"mintmark.db", "mintmark.db-wal", "mintmark.db-shm"} {
		_ = os.Remove(filepath.Join(dir, name))
	}
	copyFile(t, filepath.Join(saved, "mintmark.db"), filepath.Join(dir, "mintmark.db"))
	refused := briefly("serve", "--config", config)
	out, err := refused.CombinedOutput()
	var ended *exec.ExitError
	if !errors.As(err, &ended) || ended.ExitCode() != 5 || !strings.Contains(string(out), "anchor file") {
		t.Errorf("serve on a rolled back database: %v\n%s", err, out)
	}

	// Everything goes back.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	copyTree(t, saved, dir)
	s = startServe(t, dir, more).like(dev)
	s.stop()
	if out, ok := auditVerify(t, "--config", config); !ok {
		t.Errorf("without an anchor: %s", out)
	}
	if out, ok := auditVerify(t, "--config", config, "--anchor", early); !ok {
		t.Errorf("with an anchor from before: %s", out)
	}
	report, ok := auditVerify(t, "--config", config, "--anchor", late)
	if ok || !strings.Contains(report, "FAULT") || !strings.Contains(report, late) {
		t.Errorf("with the last anchor: %s", report)
	}
	t.Logf("%s", report)
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A running server, its database and its export are all verified, by the key alone.
func TestLogIsVerifiedWhileItIsWritten(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, nil, nil)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for range 60 { // what grows without end is never verified to its end
				select {
				case <-stop:
					return
				default:
				}
				if a, err := s.post(s.newRequest()); err != nil || a.status != 200 {
					t.Errorf("%d, %v", a.status, err)
					return
				}
			}
		})
	}
	key := filepath.Join(dir, "keys", "audit-checkpoint.pem")
	export := filepath.Join(t.TempDir(), "export.jsonl")
	for range 2 {
		for _, source := range []string{s.info.AdminURL, filepath.Join(dir, "mintmark.db")} {
			if out, ok := auditVerify(t, source, "--key", key); !ok {
				t.Errorf("%s: %s", source, out)
			}
			b, err := briefly("audit", "export", source).Output()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(export, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, ok := auditVerify(t, export, "--key", key); !ok {
				t.Errorf("export of %s: %s", source, out)
			}
		}
	}
	close(stop)
	all.Wait()
}

// released is every output that a client got, by its digest.
type released struct {
	mu  sync.Mutex
	all map[string]bool // guarded by mu
}

// take notes the three outputs of a 200.
func (r *released) take(a answer) error {
	var o struct{ ActivationData, EphemeralPublicKey, EncryptedData []byte }
	if err := json.Unmarshal(a.body, &o); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range [][]byte{o.ActivationData, o.EphemeralPublicKey, o.EncryptedData} {
		sum := sha256.Sum256(b)
		r.all[hex.EncodeToString(sum[:])] = true
	}
	return nil
}

func (r *released) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.all)
}

// requireRecorded requires that the log beside a server that is not running is whole, and
// that it holds every output that a client got.
func (r *released) requireRecorded(t *testing.T, dir string) audit.Report {
	t.Helper()
	ctx := context.Background()
	s, err := store.OpenReadOnly(ctx, filepath.Join(dir, "mintmark.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	report, err := audit.Verify(ctx, audit.Verification{Source: s, Rows: s, Keys: [][]byte{checkpointKey(t, dir)}})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Faults) != 0 {
		t.Errorf("faults: %v", report.Faults)
	}
	recorded := map[string]bool{}
	err = audit.Each(ctx, s, 0, func(row audit.Row) error {
		var body struct{ Outputs []struct{ SHA256 string } }
		if row.Kind == audit.KindResult {
			if err := json.Unmarshal(row.Body, &body); err != nil {
				return err
			}
		}
		for _, o := range body.Outputs {
			recorded[o.SHA256] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for digest := range r.all {
		if !recorded[digest] {
			t.Errorf("a client got output %s, which is not on record", digest)
		}
	}
	return report
}

func checkpointKey(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "keys", "audit-checkpoint.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
		t.Fatal(err)
	}
	return block.Bytes
}
