//go:build trace

package provisioning_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/signer"
)

// A trace is of test cards alone, and shows the payload that Apple opens.
func TestTraceIsForTestCards(t *testing.T) {
	for _, test := range []bool{true, false} {
		t.Run(fmt.Sprintf("test product %t", test), func(t *testing.T) {
			w := newWorld(t, func(c *provisioning.Config) {
				c.Tracer = signer.Tracer{}
				c.Products = provisioning.DefaultProducts()
				c.Products[0].Test = test
			})
			req := w.request(demos[0].id, "ea85a73a")
			req.Trace = true
			out, err := w.sign(req)
			if !test {
				requireNothing(t, out)
				var card *provisioning.CardError
				if !errors.As(err, &card) || card.Reason != provisioning.CardNotTest {
					t.Errorf("error is %v", err)
				}
				return
			}
			if err != nil || out.Trace == nil || !bytes.Equal(out.Trace.Payload, w.open(out)) {
				t.Fatalf("traced %+v, %v", out.Trace, err)
			}
			if out := w.mustSign(w.request(demos[0].id, "00000001")); out.Trace != nil {
				t.Error("a trace that nobody asked for")
			}
		})
	}
}
