package hsm

import (
	"context"
	"fmt"
)

// maxRandom bounds what is asked for at once, in bytes.
const maxRandom = 1 << 10

// Random gives n bytes of the token's random numbers (C_GenerateRandom). The caller
// overwrites what is secret of them.
func (t *Token) Random(ctx context.Context, n int) ([]byte, error) {
	if n < 1 || n > maxRandom {
		return nil, fmt.Errorf("random: %d bytes are asked for, and 1 to %d may be", n, maxRandom)
	}
	return work(ctx, t, "random", func(u *unit) ([]byte, error) {
		b, err := u.e.ctx.GenerateRandom(u.s, n)
		if err != nil {
			return nil, ckr("C_GenerateRandom", err)
		}
		if len(b) != n {
			return nil, fmt.Errorf("the token gave %d random bytes instead of %d", len(b), n)
		}
		return b, nil
	})
}

// Random gives random numbers of a member; see Token.Random.
func (h *HSM) Random(ctx context.Context, n int) ([]byte, error) {
	return ask(ctx, h, drawing, func(ctx context.Context, t Member) ([]byte, error) { return t.Random(ctx, n) })
}
