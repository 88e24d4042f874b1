package provisioning_test

import (
	"errors"
	"testing"

	"github.com/mintmark/mintmark/internal/provisioning"
)

// Without a tracer, which ordinary builds and environments have not, nothing is shown.
func TestTraceIsRefusedWithoutATracer(t *testing.T) {
	w := newWorld(t)
	req := w.request(demos[0].id, "ea85a73a")
	req.Trace = true
	out, err := w.sign(req)
	requireNothing(t, out)
	var field *provisioning.FieldError
	if !errors.As(err, &field) || field.Member != "trace" {
		t.Errorf("error is %v", err)
	}
	w.requireLog()
}
