package integration

import (
	"testing"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
)

// Of a signature that the module spoils, by a fault or by an attack with faults, nothing
// leaves. Its key alone is not used on that token until it was proved anew, which happens by
// itself.
func TestSpoiltSignatureDoesNotLeave(t *testing.T) {
	r := newRig(t).start()
	for purpose, other := range map[hsm.Purpose]hsm.Purpose{hsm.TAVSigning: hsm.ProximityToken, hsm.ProximityToken: hsm.TAVSigning} {
		rule := r.fault.Inject(faultmodule.Rule{Function: "C_Sign", Corrupt: true, Times: 1})
		if err := r.signFor(purpose); err == nil || rule.Fired() != 1 {
			t.Errorf("%s: signed after %d spoilt signatures, error %v", purpose, rule.Fired(), err)
		}
		if err := r.signFor(other); err != nil {
			t.Errorf("%s after a spoilt signature of %s: %v", other, purpose, err)
		}
		eventually(t, patience, func() error { return r.signFor(purpose) })
	}
}
