//go:build soak

package integration

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// soakOperations is how many seals and how many signatures, unless SOAK_N says otherwise.
const soakOperations = 200_000

// What SoftHSM 2.6.1 keeps of a session object until C_Finalize, measured without
// mintmark, and how many objects a seal makes: a pair and a shared secret.
const (
	softhsmKeeps   = 250
	objectsPerSeal = 3
)

// Hundreds of thousands of operations leave nothing behind that grows: no goroutine, no
// session, no session object, and of memory only what SoftHSM keeps.
func TestSoak(t *testing.T) {
	n := soakOperations
	if text := os.Getenv("SOAK_N"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t).start()
	for name, operation := range map[string]func() error{"seals": r.seal, "signatures": r.sign} {
		t.Run(name, func(t *testing.T) {
			r.t = t
			repeat(t, max(1000, n/20), operation) // pools and heaps grow to their size
			objects, goroutines, before := r.fault.Totals(), runtime.NumGoroutine(), resident(t)
			began := time.Now()
			repeat(t, n, operation)
			took := time.Since(began)
			grown := float64(resident(t)-before) / float64(n)
			t.Logf("%d %s in %v (%.0f/s): %.0f bytes of resident memory each", n, name, took.Round(time.Second), float64(n)/took.Seconds(), grown)

			if after := runtime.NumGoroutine(); after > goroutines+2 {
				t.Errorf("%d goroutines before, %d after", goroutines, after)
			}
			if s := r.hsm.Stats(); s.EphemeralCreated != s.EphemeralDestroyed {
				t.Errorf("%d ephemeral objects made, %d destroyed", s.EphemeralCreated, s.EphemeralDestroyed)
			}
			now := r.fault.Totals()
			made, gone := now.ObjectsCreated-objects.ObjectsCreated, now.ObjectsDestroyed-objects.ObjectsDestroyed
			if made != gone {
				t.Errorf("%d session objects made, %d destroyed", made, gone)
			}
			if opened := now.SessionsOpened - objects.SessionsOpened; opened > 16 {
				t.Errorf("%d sessions were opened", opened)
			}
			// SoftHSM's share, and as much again for what an allocator does with it.
			if bound := 2 * float64(made) / float64(n) * softhsmKeeps; grown > bound+64 {
				t.Errorf("memory grows by %.0f bytes an operation, SoftHSM explains %.0f", grown, bound/2)
			}
		})
	}
}

// repeat does n operations with as many callers as the service has at its busiest.
func repeat(t *testing.T, n int, operation func() error) {
	t.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var running sync.WaitGroup
	for range callers {
		running.Add(1)
		go func() {
			defer running.Done()
			for left.Add(-1) >= 0 {
				if err := operation(); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	running.Wait()
}

// resident is the process's resident memory in bytes, after Go gave back what it could.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal("RSS is read from /proc: ", err)
	}
	for line := range strings.Lines(string(bytes.TrimSpace(b))) {
		var kb int
		if _, err := fmt.Sscanf(line, "Rss: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatal("no Rss in smaps_rollup")
	return 0
}
