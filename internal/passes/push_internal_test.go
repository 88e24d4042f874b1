package passes

import (
	"context"
	"testing"
)

// The end of the process is no refusal by the push service: no alarm, and no attempt.
func TestBatchOfAProcessThatEndsIsNotTried(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	l := &lane{}
	for _, r := range l.pushAll(ctx, make([]Push, 3)) {
		if r.Outcome != notTried {
			t.Errorf("outcome is %s", r.Outcome)
		}
	}
}
