package passes

import (
	"context"
	"testing"
)

func TestCacheKeepsNothingOfAPanic(t *testing.T) {
	c, key := newCache(1<<20), cacheKey{"shop", "x"}
	func() {
		defer func() { _ = recover() }()
		_, _, _ = c.get(context.Background(), key, func() ([]byte, error) { panic("x") })
	}()
	value, kept, err := c.get(context.Background(), key, func() ([]byte, error) { return []byte("made"), nil })
	if string(value) != "made" || kept || err != nil {
		t.Errorf("then %q, kept %v, %v", value, kept, err)
	}
}
