package hsm

import (
	"bytes"
	"testing"
)

func TestNothingIsPassedOnAfterACrashBegins(t *testing.T) {
	const crash = "library: opened\nlibrary: half a line, SIG\nSIGSEGV: segmentation violation\nPC=0x1 m=0\nrax    0x2a\n"
	for _, size := range []int{1, 7, len(crash)} {
		var out bytes.Buffer
		u := &untilCrash{to: &out}
		for b := []byte(crash); len(b) > 0; b = b[min(size, len(b)):] {
			part := b[:min(size, len(b))]
			if n, err := u.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
		}
		if want := crash[:bytes.Index([]byte(crash), []byte("PC="))]; out.String() != want {
			t.Errorf("in parts of %d: passed on %q", size, out.String())
		}
	}
}
