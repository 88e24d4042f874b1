package access

import (
	"fmt"
	"testing"
)

// What was verified is not verified again; what was not is asked each time, and a signature
// counts for its own signing input alone.
func TestSeenSignatures(t *testing.T) {
	s := &seen{}
	good := jws{input: "a.b", signature: []byte("sig")}
	for _, tc := range []struct {
		what         string
		j            jws
		verifies     bool
		asked, taken bool
	}{
		{"a signature", good, true, true, true},
		{"the same again", good, false, false, true},
		{"another one that does not verify", jws{input: "a.b", signature: []byte("sig2")}, false, true, false},
		{"the same again, which is asked each time", jws{input: "a.b", signature: []byte("sig2")}, false, true, false},
		{"another input", jws{input: "a.c", signature: []byte("sig")}, false, true, false},
		{"the same bytes, divided elsewhere", jws{input: "a.bs", signature: []byte("ig")}, false, true, false},
	} {
		asked := false
		taken := s.verified(tc.j, func() bool { asked = true; return tc.verifies })
		if asked != tc.asked || taken != tc.taken {
			t.Errorf("%s: asked %v, taken %v", tc.what, asked, taken)
		}
	}
	var none *seen
	if none.verified(good, func() bool { return false }) || !none.verified(good, func() bool { return true }) {
		t.Error("none remembers")
	}
}

// It is bounded, and what is in use is kept.
func TestSeenForgetsWhatIsNotUsed(t *testing.T) {
	s := &seen{}
	yes, no := func() bool { return true }, func() bool { return false }
	used := jws{input: "used"}
	s.verified(used, yes)
	for i := range 5 * maxSeen {
		s.verified(jws{input: fmt.Sprint(i)}, yes)
		if !s.verified(used, no) {
			t.Fatalf("forgotten after %d others", i+1)
		}
	}
	if n := len(s.young) + len(s.old); n > 2*maxSeen {
		t.Errorf("%d are kept", n)
	}
	if s.verified(jws{input: "0"}, no) {
		t.Error("nothing is forgotten")
	}
}
