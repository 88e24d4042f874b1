package hsm

import (
	"bytes"
	"context"
	"testing"

	"github.com/mintmark/mintmark/softhsm"
)

func TestRandomNumbersAreTheTokens(t *testing.T) {
	onEveryModule(t, func(t *testing.T, on *softhsm.Token) {
		_, vault, _ := stock(t, on)
		tok := open(t, on, ringOf(vault))
		var before []byte
		for _, n := range []int{1, 16, 16, 1024} {
			b, err := tok.Random(context.Background(), n)
			if err != nil || len(b) != n {
				t.Errorf("%d bytes: got %d, %v", n, len(b), err)
			}
			if n > 1 && bytes.Equal(b, before) {
				t.Error("the same numbers again")
			}
			before = b
		}
		for _, n := range []int{-1, 0, 1025} {
			if _, err := tok.Random(context.Background(), n); err == nil {
				t.Errorf("%d bytes were given", n)
			}
		}
	})
}
