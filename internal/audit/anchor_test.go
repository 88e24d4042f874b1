package audit_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
)

// memoryAnchor remembers what it is told; while err is set it takes nothing.
type memoryAnchor struct {
	mu   sync.Mutex
	err  error
	kept []audit.Checkpoint
}

func (m *memoryAnchor) Name() string { return "memory" }

func (m *memoryAnchor) Keep(_ context.Context, c audit.Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return m.err
	}
	m.kept = append(m.kept, c)
	return nil
}

func (m *memoryAnchor) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *memoryAnchor) got() []uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sizes []uint64
	for _, c := range m.kept {
		sizes = append(sizes, c.Size)
	}
	return sizes
}

func (m *memoryAnchor) last() audit.Checkpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[len(m.kept)-1]
}

// Every checkpoint reaches the anchor in order; one that is away gets them when it is
// back, and holds nothing up meanwhile.
func TestAnchorGetsEveryCheckpointInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryAnchor{}
		a := audit.NewAnchorage(m)
		ended := make(chan struct{})
		go func() { a.Run(); close(ended) }()
		take := func(sizes ...uint64) {
			for _, n := range sizes {
				a.Take(audit.Checkpoint{Size: n})
			}
			synctest.Wait()
		}
		take(1, 2)
		m.fail(errors.New("away"))
		take(3, 4, 5)
		if st := a.Stats(); !st.Failing || st.Failed == 0 || st.Size != 2 {
			t.Errorf("while it is away: %+v", st)
		}
		time.Sleep(5 * time.Minute)
		tries := a.Stats().Failed
		if tries < 8 || tries > 20 {
			t.Errorf("%d tries in five minutes", tries)
		}
		m.fail(nil)
		time.Sleep(time.Minute)
		take(6)
		if diff := cmp.Diff([]uint64{1, 2, 3, 4, 5, 6}, m.got()); diff != "" {
			t.Error(diff)
		}
		if st := a.Stats(); st.Failing || st.Size != 6 {
			t.Errorf("afterwards: %+v", st)
		}
		a.Close()
		<-ended
	})
}

// An anchor that is away at the end is tried once more, with the newest.
func TestEndDoesNotWaitForAnAnchorThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memoryAnchor{err: errors.New("away")}
		a := audit.NewAnchorage(m)
		ended := make(chan struct{})
		go func() { a.Run(); close(ended) }()
		for n := range uint64(500) {
			a.Take(audit.Checkpoint{Size: n + 1})
		}
		synctest.Wait()
		m.fail(nil)
		began := time.Now()
		a.Close()
		<-ended
		if diff := cmp.Diff([]uint64{500}, m.got()); diff != "" || time.Since(began) > time.Second {
			t.Errorf("%v after %v", diff, time.Since(began))
		}
	})
}

func TestFileAnchorKeepsLinesAcrossACrash(t *testing.T) {
	s := newScene(t)
	f := &audit.FileAnchor{Path: filepath.Join(t.TempDir(), "anchor")}
	if got, err := f.Kept(); len(got) != 0 || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
	for i := range 3 {
		s.cards(1)
		if err := f.Keep(context.Background(), s.latest()); err != nil {
			t.Fatal(err)
		}
		if i == 1 { // half a line, as a crash leaves it
			if err := appendTo(f.Path, `{"origin":"ba`); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := f.Kept()
	if err != nil || len(got) != 3 || cmp.Diff(s.latest(), got[len(got)-1]) != "" {
		t.Errorf("%v: %+v", err, got)
	}
	info, err := os.Stat(f.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Whatever an anchor keeps can be given to the verifier as it is.
func TestAnchorsAreReadAsTheyAreKept(t *testing.T) {
	s := newScene(t)
	s.cards(2)
	c := s.latest()
	line, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a note":             c.Note,
		"a line":             string(line) + "\n",
		"a line twice":       string(line) + "\n" + string(line) + "\n",
		"without its end":    string(line),
		"a syslog daemon's":  "Nov 22 12:00:00 host other[1]: {not ours}\nNov 22 12:00:01 host mintmark[7]: " + string(line) + "\nNov 22 12:00:02 host x: end\n",
		"a witness's object": fmt.Sprintf("%s\n", line),
	} {
		got, err := audit.Anchored(strings.NewReader(text))
		if len(got) != 1 || err != nil || got[0].Note != c.Note || got[0].Size != c.Size {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, text := range map[string]string{"empty": "", "foreign": "nothing of ours\n{}\n"} {
		if got, err := audit.Anchored(strings.NewReader(text)); len(got) != 0 || err != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// The messages are those of RFC 5424, framed by their length over TCP, and a connection
// that broke is made again.
func TestSyslogAnchorSendsWhatTheRFCSays(t *testing.T) {
	s := newScene(t)
	s.cards(1)
	form := regexp.MustCompile(`^<109>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z host mintmark \d+ audit-checkpoint - (\{.*\})$`)
	check := func(t *testing.T, message string) {
		t.Helper()
		m := form.FindStringSubmatch(message)
		if m == nil {
			t.Fatalf("message %q", message)
		}
		var got audit.Checkpoint
		if err := json.Unmarshal([]byte(m[1]), &got); err != nil || got.Note != s.latest().Note {
			t.Errorf("%v: %+v", err, got)
		}
	}
	t.Run("tcp", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		messages := make(chan string)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					close(messages)
					return
				}
				var n int
				r := bufio.NewReader(conn)
				if _, err := fmt.Fscanf(r, "%d ", &n); err == nil {
					b := make([]byte, n)
					if _, err := io.ReadFull(r, b); err == nil {
						messages <- string(b)
					}
				}
				_ = conn.(*net.TCPConn).SetLinger(0) // as a server that went away
				_ = conn.Close()
				messages <- "closed"
			}
		}()
		a := &audit.SyslogAnchor{Network: "tcp", Address: l.Addr().String(), Host: "host"}
		defer func() { _ = a.Close() }()
		for range 2 {
			if err := a.Keep(t.Context(), s.latest()); err != nil {
				t.Fatal(err)
			}
			check(t, <-messages)
			<-messages
			audit.AwaitReset(a)
		}
	})
	t.Run("unixgram", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		l, err := net.ListenPacket("unixgram", path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		a := &audit.SyslogAnchor{Network: "unixgram", Address: path, Host: "host"}
		defer func() { _ = a.Close() }()
		if err := a.Keep(t.Context(), s.latest()); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<16)
		n, _, err := l.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		check(t, string(b[:n]))
	})
	t.Run("nobody", func(t *testing.T) {
		a := &audit.SyslogAnchor{Network: "unixgram", Address: filepath.Join(t.TempDir(), "none"), Host: "host"}
		if err := a.Keep(t.Context(), s.latest()); err == nil {
			t.Error("nobody listens, and it was kept")
		}
	})
}
