package hsm

import (
	"strings"
	"testing"
)

// Of a crash the first line is told, and nothing of what was worked on; what a library prints
// is told as it is.
func TestCrashIsToldInOneLine(t *testing.T) {
	const stack = "PC=0x7fbc m=0 sigcode=1 addr=0x0\n\ngoroutine 39 [syscall]:\nmain.sign(0x4111111111111111)\n\trax    0x31313131\n"
	for _, tc := range []struct{ printed, told string }{
		{"library: no slot\nand half a li", "library: no slot\nand half a li"},
		{"SIGNATURE: bad\nSIGN\n", "SIGNATURE: bad\nSIGN\n"},
		{"library: lost\nSIGSEGV: segmentation violation\n" + stack, "library: lost\nSIGSEGV: segmentation violation\n"},
		{"fatal error: unexpected signal during runtime execution\n" + stack, "fatal error: unexpected signal during runtime execution\n"},
		{"panic: runtime error: index out of range\n\n" + stack, "panic: runtime error: index out of range\n"},
		{"a fatal error: said by a library\nmore\n", "a fatal error: said by a library\nmore\n"},
	} {
		for _, size := range []int{1, 7, len(tc.printed)} {
			var told strings.Builder
			w := &crashWord{to: &told}
			for rest := []byte(tc.printed); len(rest) > 0; {
				n, err := w.Write(rest[:min(size, len(rest))])
				if err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
			if told.String() != tc.told {
				t.Errorf("%q, %d bytes at a time, is told as %q", tc.printed, size, told.String())
			}
		}
	}
}
