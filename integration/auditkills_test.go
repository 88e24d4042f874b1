package integration

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// kills is how often the server is killed: a few times in the tests, 50 times by make
// kills.
func kills(t *testing.T) int {
	text := os.Getenv("KILLS")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// kill -9 at random points under load: every output that a client got has its record,
// and the log is whole, each time.
func TestKilledAtRandomPoints(t *testing.T) {
	dir := t.TempDir()
	got := &released{all: map[string]bool{}}
	for round := range kills(t) {
		s := start(t, dir, nil, nil)
		before := got.count()
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() { s.sealUntil(stop, got) })
		}
		eventually(t, patience, func() error {
			if got.count() == before {
				return errors.New("nothing is released")
			}
			return nil
		})
		// At a random point of what follows, not at one that the test is waiting for.
		<-time.After(rand.N(600 * time.Millisecond))
		s.kill()
		close(stop)
		clients.Wait()
		report := got.requireRecorded(t, dir)
		t.Logf("round %d: %d outputs released so far, %d entries, %d open intents, %d entries without checkpoint",
			round+1, got.count(), report.Entries, len(report.Open), report.Entries-report.Covered)
	}
}

// sealUntil seals cards until told to stop or the server is gone.
func (s *server) sealUntil(stop <-chan struct{}, got *released) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		a, err := s.post(s.newRequest())
		if err != nil {
			return // the server is gone, or was
		}
		if a.status != http.StatusOK {
			s.t.Errorf("answered %d: %s", a.status, a.body)
			return
		}
		if err := got.take(a); err != nil {
			s.t.Error(err)
		}
	}
}
