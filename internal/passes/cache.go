package passes

import (
	"container/list"
	"context"
	"sync"
)

// A cache keeps what costs to make, up to a number of bytes, and forgets first what was
// used longest ago. Keys begin with the tenant. What several ask for at once is made once.
type cache struct {
	most int64

	mu     sync.Mutex // guards what follows; never held while something is made
	size   int64
	order  *list.List // of *cached, the latest used first
	items  map[cacheKey]*list.Element
	making map[cacheKey]chan struct{} // closed when it is made, or could not be
}

// cacheKey says what is kept. The tenant is part of it, and so never shares.
type cacheKey struct{ tenant, what string }

type cached struct {
	key   cacheKey
	value []byte
}

func newCache(most int64) *cache {
	return &cache{most: most, order: list.New(), items: map[cacheKey]*list.Element{}, making: map[cacheKey]chan struct{}{}}
}

// get gives what is kept under key, or what produce makes, and whether it was kept. The value
// is shared: nobody may change it.
func (c *cache) get(ctx context.Context, key cacheKey, produce func() ([]byte, error)) (value []byte, kept bool, err error) {
	for {
		c.mu.Lock()
		if e, ok := c.items[key]; ok {
			c.order.MoveToFront(e)
			c.mu.Unlock()
			return e.Value.(*cached).value, true, nil
		}
		other, busy := c.making[key]
		if !busy {
			break
		}
		c.mu.Unlock()
		select {
		case <-other: // made, or its maker failed and it is our turn
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
	}
	done := make(chan struct{})
	c.making[key] = done
	c.mu.Unlock()
	made := false // stays so if produce panics
	defer func() {
		c.mu.Lock()
		delete(c.making, key)
		if made {
			c.keep(key, value)
		}
		c.mu.Unlock()
		close(done)
	}()
	value, err = produce()
	made = err == nil
	return value, false, err
}

// overhead is what an entry takes beside its value, roughly.
const overhead = 512

// keep adds a value under the lock.
func (c *cache) keep(key cacheKey, value []byte) {
	if int64(len(value))+overhead > c.most {
		return
	}
	c.items[key] = c.order.PushFront(&cached{key, value})
	c.size += int64(len(value)) + overhead
	for c.size > c.most {
		last := c.order.Back()
		old := c.order.Remove(last).(*cached)
		delete(c.items, old.key)
		c.size -= int64(len(old.value)) + overhead
	}
}
