package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/mintmark/mintmark/hsm"
)

// The service manager is told of start, life, reload and stop, in that order (sd_notify(3)).
func TestTheSupervisorIsTold(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "notify-") // t.TempDir is too long for a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var told []string
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := socket.Read(b)
			if err != nil {
				return
			}
			mu.Lock()
			told = append(told, string(bytes.TrimSpace(b[:n])))
			mu.Unlock()
		}
	}()
	t.Cleanup(func() { _ = socket.Close() })
	// hears waits until what was told, but for signs of life, has this form.
	hears := func(form string) {
		t.Helper()
		want := regexp.MustCompile("^" + form + "$")
		eventually(t, patience, func() error {
			mu.Lock()
			defer mu.Unlock()
			var words []string
			for _, w := range told {
				if w != "WATCHDOG=1" {
					words = append(words, strings.ReplaceAll(w, "\n", " "))
				}
			}
			if got := strings.Join(words, ", "); !want.MatchString(got) {
				return fmt.Errorf("told %q", got)
			}
			return nil
		})
	}

	s := newSite(t, hsm.MerchantJWT)
	const listen = "api: {listen: \"127.0.0.1:0\"}\n" // not where every service is that was told nothing
	s.configure(listen + "roles: [merchant]\nmerchant: {audFingerprints: [" + fingerprint + "]}\n")
	srv := process(t, []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=200000"}, "serve", "--config", filepath.Join(s.dir, "mintmark.yaml"))
	hears("READY=1")
	const reload = `, RELOADING=1 MONOTONIC_USEC=\d+, READY=1`
	for n, text := range []string{"merchant: {audFingerprints: [" + fingerprint + "]}\nroles: [merchant]\n", "nonsense: [\n"} { // also one that changes nothing
		s.configure(listen + text)
		if err := srv.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		hears("READY=1" + strings.Repeat(reload, n+1))
	}
	eventually(t, patience, func() error {
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(strings.Join(told, " "), "WATCHDOG=1") {
			return fmt.Errorf("no sign of life in %q", told)
		}
		return nil
	})
	srv.stop()
	hears("READY=1" + reload + reload + ", STOPPING=1")
}
