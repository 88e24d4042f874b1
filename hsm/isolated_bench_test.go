package hsm

import (
	"context"
	"crypto"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mintmark/mintmark/softhsm"
)

// What a process of its own costs a member: make bench-isolation. ns/op is with as many
// callers as cores; cpu-ms/op is of this process and the child together, the verification of
// signatures and the benchmark itself included.
func BenchmarkIsolation(b *testing.B) {
	on := softhsm.New(b)
	var tav, index Key
	change(b, on, func(u *unit) {
		tav = importRSA(b, u, entry("tav", TAVSigning), hostRSA(b, 0))
		index = importSecret(b, u, entry("index", CardIndex), fill(2))
	})
	seal, data := appleSealing(b, receiver(b).PublicKey()), make([]byte, 48)
	for _, where := range []Isolation{NoIsolation, ProcessIsolation} {
		needsLinux(b, where)
		cfg := configFor(on, ringOf(tav, index))
		cfg.Isolation, cfg.DataDir = where, b.TempDir()
		h, err := Start(context.Background(), Failover, []Config{cfg})
		if err != nil {
			b.Fatal(err)
		}
		until(func() bool { return h.Ready() == nil })
		ctx, m := context.Background(), h.Members()[0]
		for _, op := range []struct {
			name string
			do   func() error
		}{
			{"RSA-2048", func() error { return second(m.Sign(ctx, tav.Name, sha("m"), crypto.SHA256)) }},
			{"seal", func() error { return second(m.AgreeAndSeal(ctx, seal)) }},
			{"HMAC", func() error { return second(m.HMAC(ctx, index.Name, data)) }},
		} {
			b.Run(op.name+"/"+string(where), func(b *testing.B) {
				before := cpu(b, m)
				parallel(b, op.do)
				b.ReportMetric(float64((cpu(b, m)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			})
		}
		if err := h.Close(ctx); err != nil {
			b.Error(err)
		}
	}
}

// cpu is the processor time that this process and the member's own, if it has one, have used.
func cpu(b *testing.B, m Member) time.Duration {
	b.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	sum := time.Duration(own.Utime.Nano() + own.Stime.Nano())
	isolated, ok := m.(*isolated)
	if !ok {
		return sum
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(isolated.current.Load().cmd.Process.Pid) + "/stat")
	_, after, found := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	if err != nil || !found || len(fields) < 13 {
		b.Fatalf("%q, %v", stat, err)
	}
	for _, ticks := range fields[11:13] { // utime, stime, 100 a second (proc(5))
		n, err := strconv.Atoi(ticks)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}
