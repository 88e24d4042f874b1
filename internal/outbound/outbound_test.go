package outbound_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/internal/outbound"
)

// TestMain names a proxy that is not there. The rebinding test calls a name for which
// it would be asked, were the environment looked at.
func TestMain(m *testing.M) {
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		_ = os.Setenv(name, "http://127.0.0.1:1")
	}
	leaktest.Main(m)
}

// loopback is what a client of these tests may call although it is not public.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}

// serve starts a TLS server on 127.0.0.1 and counts the requests that reach it.
func serve(t *testing.T, handle http.HandlerFunc, change ...func(*httptest.Server)) (s *httptest.Server, reached *atomic.Int32) {
	t.Helper()
	reached = new(atomic.Int32)
	s = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached.Add(1)
		handle(w, r)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, c := range change {
		c(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, reached
}

// patience is the timeout of calls that are not about it.
const patience = time.Minute

// trusting is a client that may call s and believes its certificate, changed.
func trusting(t *testing.T, s *httptest.Server, change ...func(*outbound.Config)) *outbound.Client {
	t.Helper()
	cfg := outbound.Config{Timeout: patience, Private: loopback, Roots: x509.NewCertPool()}
	cfg.Roots.AddCert(s.Certificate())
	for _, c := range change {
		c(&cfg)
	}
	client := outbound.New(cfg)
	t.Cleanup(client.Close)
	return client
}

func fails(t *testing.T, err error, want outbound.Problem) *outbound.Error {
	t.Helper()
	var e *outbound.Error
	if !errors.As(err, &e) || e.Problem != want {
		t.Fatalf("error is %v, want %q", err, want)
	}
	return e
}

func TestGetFetchesOnceAndThenOnCondition(t *testing.T) {
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Cache-Control", "public, max-age=300")
		if r.Header.Get("If-None-Match") == `"v1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = fmt.Fprintf(w, "%s %s %q", r.Method, r.Header.Get("User-Agent"), r.Header["Accept-Encoding"])
	})
	c := trusting(t, s, func(cfg *outbound.Config) { cfg.UserAgent = "mintmark/1" })

	first, err := c.Get(t.Context(), s.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	if string(first.Body) != `GET mintmark/1 []` || first.ETag != `"v1"` || first.MaxAge != 5*time.Minute ||
		first.NotModified || first.ContentType != "application/jwk-set+json" {
		t.Fatalf("got %+v with %q", first, first.Body)
	}
	again, err := c.Get(t.Context(), s.URL, first.ETag)
	if err != nil || !again.NotModified || again.Body != nil || again.MaxAge != 5*time.Minute {
		t.Fatalf("got %+v, %v", again, err)
	}
	other, err := c.Get(t.Context(), s.URL, `"v0"`)
	if err != nil || other.NotModified || !bytes.Equal(other.Body, first.Body) {
		t.Fatalf("got %+v, %v", other, err)
	}
}

func TestPostSendsWhatItIsGiven(t *testing.T) {
	s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", fmt.Sprintf("%s %s %s %s", r.Method, r.Header.Get("Content-Type"), r.Header.Get("X-Request"), body))
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, "refused")
	})
	header := http.Header{"X-Request": {"7"}}
	a, err := trusting(t, s).Post(t.Context(), s.URL+"/cards?x=1", "application/json", []byte(`{}`), header)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status != 422 || string(a.Body) != "refused" || a.Header.Get("X-Seen") != "POST application/json 7 {}" {
		t.Fatalf("got %+v", a)
	}
	if len(header) != 1 {
		t.Fatalf("the caller's header was changed: %v", header)
	}
	if _, err := trusting(t, s).Post(t.Context(), s.URL, "text/plain", nil, nil); err != nil {
		t.Fatal(err)
	}
}

func TestMaxAge(t *testing.T) {
	for _, tc := range []struct {
		values []string
		want   time.Duration
	}{
		{nil, 0},
		{[]string{"max-age=60"}, time.Minute},
		{[]string{`Max-Age="60"`}, time.Minute},
		{[]string{"public", "max-age=60"}, time.Minute},
		{[]string{"max-age=60, no-store"}, 0},
		{[]string{"no-cache", "max-age=60"}, 0},
		{[]string{"max-age=-1"}, 0},
		{[]string{"max-age=x"}, 0},
		{[]string{"max-age"}, 0},
		{[]string{"s-maxage=60"}, 0},
		{[]string{"max-age=99999999999999999999"}, 0},
	} {
		t.Run(strings.Join(tc.values, ";"), func(t *testing.T) {
			s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header()["Cache-Control"] = tc.values })
			d, err := trusting(t, s).Get(t.Context(), s.URL, "")
			if err != nil || d.MaxAge != tc.want {
				t.Fatalf("max age %v, %v; want %v", d.MaxAge, err, tc.want)
			}
		})
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	for _, status := range []int{300, 301, 302, 303, 305, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			target, reached := serve(t, func(http.ResponseWriter, *http.Request) {})
			s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", target.URL)
				w.WriteHeader(status)
			})
			c := trusting(t, s)
			_, err := c.Get(t.Context(), s.URL, "")
			if e := fails(t, err, outbound.ProblemRedirect); e.Status != status {
				t.Fatalf("status is %d", e.Status)
			}
			_, err = c.Post(t.Context(), s.URL, "text/plain", []byte("secret"), nil)
			fails(t, err, outbound.ProblemRedirect)
			if reached.Load() != 0 {
				t.Fatal("the target was called")
			}
		})
	}
}

func TestUnwantedAnswers(t *testing.T) {
	many := bytes.Repeat([]byte("x"), 1001)
	for _, tc := range []struct {
		name   string
		handle http.HandlerFunc
		want   outbound.Problem
	}{
		{"404", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, outbound.ProblemStatus},
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, outbound.ProblemStatus},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, outbound.ProblemStatus},
		{"304 without a condition", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, outbound.ProblemStatus},
		{"one byte too many", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(many) }, outbound.ProblemTooLarge},
		{"content without end", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(many); err != nil {
					return
				}
			}
		}, outbound.ProblemTooLarge},
		{"an error without end", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			for {
				if _, err := w.Write(many); err != nil {
					return
				}
			}
		}, outbound.ProblemTooLarge},
		{"a huge header", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Huge", strings.Repeat("x", 64<<10))
		}, outbound.ProblemAnswer},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(many[:10])
			panic(http.ErrAbortHandler)
		}, outbound.ProblemAnswer},
		{"hung up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, outbound.ProblemAnswer},
	} {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tc.name, http2), func(t *testing.T) {
				s, _ := serve(t, tc.handle, func(s *httptest.Server) { s.EnableHTTP2 = http2 })
				c := trusting(t, s, func(cfg *outbound.Config) { cfg.MaxBytes = 1000 })
				_, err := c.Get(t.Context(), s.URL, "")
				fails(t, err, tc.want)
			})
		}
	}
}

func TestContentUpToTheBoundIsTaken(t *testing.T) {
	s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1000)) })
	d, err := trusting(t, s, func(cfg *outbound.Config) { cfg.MaxBytes = 1000 }).Get(t.Context(), s.URL, "")
	if err != nil || len(d.Body) != 1000 {
		t.Fatalf("%d bytes, %v", len(d.Body), err)
	}
}

func TestSlowPeersAreNotWaitedFor(t *testing.T) {
	silent := func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // or the handler's end would be an answer
	}
	dripping := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "a")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // likewise
	}
	for name, handle := range map[string]http.HandlerFunc{"no answer": silent, "no end of the answer": dripping} {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, handle)
			c := trusting(t, s, func(cfg *outbound.Config) { cfg.Timeout = 200 * time.Millisecond })
			_, err := c.Get(t.Context(), s.URL, "")
			fails(t, err, outbound.ProblemTimeout)
		})
		t.Run(name+", and the caller goes away", func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			s, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { cancel(); handle(w, r) })
			_, err := trusting(t, s).Get(ctx, s.URL, "")
			fails(t, err, outbound.ProblemCancelled)
		})
	}
	t.Run("no handshake", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c := outbound.New(outbound.Config{Private: loopback, Timeout: 200 * time.Millisecond})
		_, err = c.Get(t.Context(), "https://"+l.Addr().String(), "")
		fails(t, err, outbound.ProblemTimeout)
	})
}

func TestPeersWithoutGoodTLSAreRefused(t *testing.T) {
	honest := func(http.ResponseWriter, *http.Request) {}
	t.Run("unknown authority", func(t *testing.T) {
		s, reached := serve(t, honest)
		_, err := trusting(t, s, func(cfg *outbound.Config) { cfg.Roots = x509.NewCertPool() }).Get(t.Context(), s.URL, "")
		if fails(t, err, outbound.ProblemCertificate); reached.Load() != 0 {
			t.Fatal("was called all the same")
		}
	})
	t.Run("another host's certificate", func(t *testing.T) {
		s, reached := serve(t, honest)
		c := trusting(t, s)
		resolver, _ := answering(t, "127.0.0.1")
		c.Resolve(resolver)
		_, err := c.Get(t.Context(), strings.Replace(s.URL, "127.0.0.1", "issuer.test", 1), "")
		if e := fails(t, err, outbound.ProblemCertificate); e.Detail != "issued to another host" || reached.Load() != 0 {
			t.Fatalf("%v, reached %d", err, reached.Load())
		}
	})
	t.Run("TLS 1.1", func(t *testing.T) {
		s, reached := serve(t, honest, func(s *httptest.Server) {
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
		})
		_, err := trusting(t, s).Get(t.Context(), s.URL, "")
		if fails(t, err, outbound.ProblemTLS); reached.Load() != 0 {
			t.Fatal("was called all the same")
		}
	})
	t.Run("TLS 1.2 is taken", func(t *testing.T) {
		s, _ := serve(t, honest, func(s *httptest.Server) { s.TLS = &tls.Config{MaxVersion: tls.VersionTLS12} })
		if _, err := trusting(t, s).Get(t.Context(), s.URL, ""); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("plain HTTP on the port", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(honest))
		defer s.Close()
		c := outbound.New(outbound.Config{Timeout: patience, Private: loopback})
		t.Cleanup(c.Close)
		_, err := c.Get(t.Context(), strings.Replace(s.URL, "http:", "https:", 1), "")
		fails(t, err, outbound.ProblemTLS)
	})
	t.Run("nobody there", func(t *testing.T) {
		s, _ := serve(t, honest)
		_, err := trusting(t, s).Get(t.Context(), "https://"+silentAddress(t), "")
		fails(t, err, outbound.ProblemConnect)
	})
}

// silentAddress is one on which nobody listens, nor will before the test ends: it is taken.
func silentAddress(t *testing.T) string {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(socket) })
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
}

// What comes from the peer, and what stands behind the host, stays out of errors.
func TestErrorsRepeatNothing(t *testing.T) {
	const canary = "c4n4ry"
	for name, raw := range map[string]string{
		"status line":   canary + "\r\n\r\n",
		"status number": "HTTP/1.1 " + canary + "\r\n\r\n",
		"header":        "HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n",
		"length":        "HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n",
		"encoding":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + canary + "\r\n\r\n",
		"chunk":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + canary + "\r\n",
		"redirect":      "HTTP/1.1 302 Found\r\nLocation: https://" + canary + "/\r\nContent-Length: 0\r\n\r\n",
		"bad redirect":  "HTTP/1.1 302 Found\r\nLocation: ://" + canary + "\r\nContent-Length: 0\r\n\r\n",
		"status text":   "HTTP/1.1 404 " + canary + "\r\nContent-Length: 0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				conn, _, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(conn, raw)
				_ = conn.Close()
			})
			_, err := trusting(t, s).Post(t.Context(), s.URL+"/"+canary+"?token="+canary, "text/plain", []byte(canary), http.Header{"Authorization": {canary}})
			if name == "status text" {
				if err != nil {
					t.Fatal(err)
				}
				_, err = trusting(t, s).Get(t.Context(), s.URL+"/"+canary+"?token="+canary, "")
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err)} {
				if strings.Contains(text, canary) {
					t.Errorf("the error holds the canary: %s", text)
				}
			}
		})
	}
}

func TestNoCookieIsKept(t *testing.T) {
	s, reached := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
		if r.Header.Get("Cookie") != "" {
			t.Error("a cookie came back")
		}
	})
	c := trusting(t, s)
	for range 2 {
		if _, err := c.Get(t.Context(), s.URL, ""); err != nil {
			t.Fatal(err)
		}
	}
	if reached.Load() != 2 {
		t.Fatalf("reached %d times", reached.Load())
	}
}
