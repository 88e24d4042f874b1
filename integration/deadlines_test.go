package integration

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
)

// Who finds no place before its deadline is told so at the deadline, and may come again;
// the other lane serves, and this one does when it is free.
func TestFullLaneAnswersAtTheCallersDeadline(t *testing.T) {
	r := newRig(t)
	r.cfg.ECConcurrency = 1
	r.cfg.CallTimeout = time.Hour // nothing ends a caller's wait but its own deadline
	r.start()
	stuck := r.fault.Hang("C_DeriveKey", 1)
	held := make(chan error, 1)
	go func() { held <- r.seal() }()
	stuck.Await(1)

	const deadline = 100 * time.Millisecond
	var waiting sync.WaitGroup
	for range callers {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			began := time.Now() // before the deadline's own clock starts
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			_, err := r.hsm.HMAC(ctx, string(hsm.CardIndex), []byte("x"))
			var later interface{ RetryAfter() time.Duration }
			if !errors.Is(err, hsm.ErrBusy) || !errors.As(err, &later) {
				t.Errorf("a caller in the queue gets %v", err)
			}
			if took := time.Since(began); took < deadline {
				t.Errorf("a caller with %v is told after %v", deadline, took)
			}
		}()
	}
	waiting.Wait()
	if err := r.sign(); err != nil {
		t.Errorf("the other lane: %v", err)
	}
	stuck.Clear()
	if err := <-held; err != nil {
		t.Errorf("the call that held the lane: %v", err)
	}
	if err := r.everything(); err != nil {
		t.Error(err)
	}
	if s := r.hsm.Members()[0].Status(); s.State != hsm.Ready {
		t.Errorf("a full lane is no fault of the member, whose state is %v", s)
	}
}

// A request that cannot have its signature in time is answered 503 in time, with the
// moment to come again; its nonce is free then.
func TestRequestIsAnsweredByItsDeadline(t *testing.T) {
	fault := faultmodule.New(t, module(t))
	// The device is given an hour: nothing ends a request's wait but its own deadline.
	s := start(t, t.TempDir(), []string{"--module", fault.Path}, append([]string{"MINTMARK_API_REQUEST_TIMEOUT=3s", "MINTMARK_HSM_CALL_TIMEOUT=1h"}, unsigned...))
	s.answers(http.StatusOK)
	stuck := fault.Hang("C_DeriveKey", faultmodule.Forever)
	requests := make([]request, callers)
	var waiting sync.WaitGroup
	for i := range requests {
		requests[i] = s.newRequest()
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			a, err := s.post(requests[i])
			if err != nil || a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
				t.Errorf("answered %d (%v): %s", a.status, err, a.body)
			}
		}()
	}
	waiting.Wait()
	stuck.Clear()
	for _, req := range requests {
		eventually(t, patience, func() error {
			if a := s.mustPost(req); a.status != http.StatusOK {
				return errors.New(string(a.body))
			}
			return nil
		})
	}
}

// However many requests meet a fault, the log has one line for each change of state.
func TestOneLogLineAChangeOfState(t *testing.T) {
	r := newRig(t).start()
	pr := newPressure(t)
	for range callers {
		pr.running.Add(1)
		go func() {
			defer pr.running.Done()
			for {
				select {
				case <-pr.stop:
					return
				default:
				}
				if r.everything() == nil {
					pr.ok.Add(1)
				} else {
					pr.failed.Add(1)
				}
			}
		}()
	}
	pr.more(t, 20)
	before := r.log.String()
	lost := r.fault.Inject(faultmodule.Rule{RV: pkcs11.CKR_DEVICE_ERROR, Times: faultmodule.Forever})
	failed := pr.failed.Load()
	eventually(t, patience, func() error {
		if pr.failed.Load() < failed+500 {
			return errors.New("not refused often enough")
		}
		return nil
	})
	lost.Clear()
	pr.more(t, 20)
	pr.end()
	log := strings.TrimPrefix(r.log.String(), before)
	for _, change := range []string{"from=ready to=draining", "from=draining to=reinit", "from=reinit to=ready"} {
		if n := strings.Count(log, change); n != 1 {
			t.Errorf("%d log lines say %q", n, change)
		}
	}
	if n := strings.Count(log, "\n"); n > 6 {
		t.Errorf("%d log lines for one fault and %d failed requests:\n%s", n, pr.failed.Load(), log)
	}
}
