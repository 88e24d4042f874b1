package hsm

import (
	"errors"
	"testing"

	"github.com/mintmark/mintmark/softhsm"
)

// What was wrong with a module when its last member was closed is no matter of the member
// that is opened next: the Close has finalized it.
func TestTroubleEndsWithTheLastMember(t *testing.T) {
	on := softhsm.New(t)
	first := open(t, on, ringOf())
	machine := first.mod.machine
	for range 2 { // after the second time the machine pauses, and does not look at what is wrong meanwhile
		machine.trouble(errors.New("as the test wants it"))
		until(func() bool { return machine.cause() == nil })
	}
	machine.trouble(errors.New("as the test wants it, again"))
	shut(t, first)
	if cause := machine.cause(); cause != nil {
		t.Errorf("the next member inherits: %v", cause)
	}
	first.Restart(errors.New("as a call's timer may say that has only just been stopped"))
	if cause := machine.cause(); cause != nil {
		t.Errorf("the next member inherits what was said after the close: %v", cause)
	}
}

// Of a member that is down nothing is known of its keys: not that they are unlisted.
func TestKeysOfAMemberThatIsDownAreNotKnown(t *testing.T) {
	key := entry("vault", CardVault)
	for _, k := range ringOf(key).statuses(nil) {
		if k.Problem != KeyUnknown {
			t.Errorf("key %s %s", k.Name, k.Problem)
		}
	}
}
