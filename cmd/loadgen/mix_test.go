package main

import (
	"slices"
	"testing"
)

// Each operation comes as often as its weight says, and evenly spread.
func TestMixIsKeptAndSpread(t *testing.T) {
	shares, err := parseMix("merchant=7, card=2,jwks=1")
	if err != nil {
		t.Fatal(err)
	}
	turns := newRota(shares)
	var all []int
	for range 100 {
		all = append(all, turns.next())
	}
	for i, s := range shares {
		for tens := range slices.Chunk(all, 10) {
			n := 0
			for _, turn := range tens {
				if turn == i {
					n++
				}
			}
			if n != s.weight {
				t.Errorf("%s comes %d times in ten, want %d", s.name, n, s.weight)
			}
		}
	}
	for i := range len(all) - 1 {
		if all[i] != 0 && all[i+1] == all[i] {
			t.Errorf("turns %d and %d are both of %s", i, i+1, shares[all[i]].name)
		}
	}
}

func TestMixThatSaysNothingClearIsRefused(t *testing.T) {
	for _, text := range []string{"", "merchant", "merchant=", "merchant=0", "merchant=-1", "merchant=1.5", "merchant=2000000", "unknown=1", "merchant=1,merchant=2", "merchant=1,", "=1"} {
		if shares, err := parseMix(text); err == nil {
			t.Errorf("%q is taken as %v", text, shares)
		}
	}
}
