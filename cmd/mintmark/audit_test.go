package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/config"
)

// caFile writes the certificate of a test server, which is its own root.
func caFile(t *testing.T, srv *httptest.Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkpointOf is a checkpoint of a size, signed by nobody.
func checkpointOf(size uint64) audit.Checkpoint {
	return audit.Checkpoint{Origin: "bank/test", Size: size, Note: fmt.Sprintf("bank/test\n%d\n%s\n\n", size, tlog.Hash{})}
}

// anchorOf makes the one anchor of a configuration.
func anchorOf(t *testing.T, a config.Anchor, out config.Outbound) audit.Anchor {
	t.Helper()
	all, err := newAnchors(&plan{cfg: &config.Config{Audit: config.Audit{Anchors: []config.Anchor{a}}, Outbound: out}})
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// readFramed reads messages framed by their length (RFC 5425, 4.3) off connections.
func readFramed(l net.Listener, messages chan<- string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = conn.Close() }()
			for r := bufio.NewReader(conn); ; {
				var n int
				if _, err := fmt.Fscanf(r, "%d ", &n); err != nil {
					return
				}
				b := make([]byte, n)
				if _, err := io.ReadFull(r, b); err != nil {
					return
				}
				messages <- string(b)
			}
		}()
	}
}

// Checkpoints reach a syslog server over TLS, each in a frame of its own on one
// connection, if its certificate is of a root that is trusted, and no other server.
func TestSyslogAnchorOverTLS(t *testing.T) {
	srv := httptest.NewTLSServer(nil) // for its certificate
	defer srv.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: srv.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	messages := make(chan string, 8)
	go readFramed(l, messages)
	address := "tls://" + l.Addr().String()
	anchor := anchorOf(t, config.Anchor{Syslog: address, CAFile: caFile(t, srv)}, config.Outbound{})
	for size := range uint64(3) {
		if err := anchor.Keep(t.Context(), checkpointOf(size)); err != nil {
			t.Fatal(err)
		}
	}
	for size := range uint64(3) {
		head, object, _ := strings.Cut(<-messages, "{")
		var got audit.Checkpoint
		if err := json.Unmarshal([]byte("{"+object), &got); err != nil || got.Size != size {
			t.Errorf("%v: %q %+v, want size %d", err, head, got, size)
		}
		if !strings.HasPrefix(head, "<109>1 ") || !strings.HasSuffix(head, " audit-checkpoint - ") {
			t.Errorf("header %q", head)
		}
	}
	stranger := anchorOf(t, config.Anchor{Syslog: address}, config.Outbound{})
	if err := stranger.Keep(t.Context(), checkpointOf(9)); err == nil || len(messages) != 0 {
		t.Errorf("a server of no trusted root: %v, %d messages", err, len(messages))
	}
}

// A webhook gets each checkpoint as JSON over https; what it does not answer with 2xx is
// not kept, and a server of no trusted root is sent nothing.
func TestWebhookAnchorOverHTTPS(t *testing.T) {
	var bodies []audit.Checkpoint
	status := http.StatusNoContent
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c audit.Checkpoint
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil || r.Method != http.MethodPost || r.URL.Path != "/keep" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		bodies = append(bodies, c)
		w.WriteHeader(status)
	}))
	defer srv.Close()
	url := config.Anchor{Webhook: srv.URL + "/keep"}
	anchor := anchorOf(t, url, config.Outbound{CAFile: caFile(t, srv), AllowPrivate: []string{"127.0.0.0/8"}})
	keep := func(a audit.Anchor, size uint64) error {
		return a.Keep(context.Background(), checkpointOf(size))
	}
	if err := keep(anchor, 7); err != nil {
		t.Fatal(err)
	}
	if len(bodies) != 1 || bodies[0].Size != 7 || bodies[0].Note != checkpointOf(7).Note {
		t.Errorf("it got %+v", bodies)
	}
	for _, status = range []int{http.StatusFound, http.StatusForbidden, http.StatusInternalServerError} {
		if err := keep(anchor, 8); err == nil {
			t.Errorf("an answer of %d is taken for one that keeps it", status)
		}
	}
	told := len(bodies)
	if err := keep(anchorOf(t, url, config.Outbound{AllowPrivate: []string{"127.0.0.0/8"}}), 9); err == nil || len(bodies) != told {
		t.Errorf("a server of no trusted root: %v, told %d times", err, len(bodies)-told)
	}
}
