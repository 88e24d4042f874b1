package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// share is an operation's part of the load.
type share struct {
	name   string
	weight int
}

// parseMix reads merchant=80,card=20: names of operations with whole weights above 0. The
// weights need not add up to anything.
func parseMix(text string) ([]share, error) {
	var all []share
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		name, weight, ok := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(weight)
		if _, known := operations[name]; !known {
			return nil, fmt.Errorf("--mix: no operation is called %q; loadgen --help lists them", name)
		}
		if !ok || err != nil || n < 1 || n > maxWeight || seen[name] {
			return nil, fmt.Errorf("--mix: %q is not name=weight, each name once and each weight from 1 to %d", part, maxWeight)
		}
		seen[name] = true
		all = append(all, share{name, n})
	}
	return all, nil
}

// maxWeight keeps the sum of weights far from what an int holds.
const maxWeight = 1_000_000

// rota says whose turn it is: each share comes as often as its weight says, and evenly
// spread, the same in every run. At each turn all gain their weight; whoever has most goes,
// and pays what all gained together.
type rota struct {
	mu     sync.Mutex
	shares []share
	credit []int // guarded by mu
}

func newRota(shares []share) *rota { return &rota{shares: shares, credit: make([]int, len(shares))} }

// next is the place of the share whose turn it is.
func (r *rota) next() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum, most := 0, 0
	for i, s := range r.shares {
		sum += s.weight
		r.credit[i] += s.weight
		if r.credit[i] > r.credit[most] {
			most = i
		}
	}
	r.credit[most] -= sum
	return most
}
