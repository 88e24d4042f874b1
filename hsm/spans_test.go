package hsm

import (
	"context"
	"testing"
)

// Whoever wants no traces does not pay for them.
func TestWithoutATraceAMemberIsAskedAtNoCost(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	do := func(context.Context, Member) (int, error) { return 1, nil }
	if n := testing.AllocsPerRun(1000, func() {
		if v, err := traced(ctx, nil, computingHMAC, do); v != 1 || err != nil {
			t.Error(v, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
