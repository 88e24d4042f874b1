package cluster

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// An attempt is one use of a nonce by a caller, as the caller saw it, or the look at the
// database after all of them.
type attempt struct {
	nonce string
	look  bool // at the database, for whether the nonce is used
}

// outcome is what came of an attempt.
type outcome int

const (
	granted outcome = iota // 200: the nonce was this caller's
	refused                // 409: it is used, or somebody has claimed it
	unknown                // no answer, or 503: anything may have become of it, also later
	isUsed                 // what a look found
	isNotUsed
)

func (o outcome) String() string {
	return [...]string{"granted", "refused", "unknown", "is used", "is not used"}[o]
}

// nonceState is the register that the service must be equal to, of one nonce.
type nonceState int

const (
	untouched nonceState = iota
	// open is a nonce of which a caller who learnt nothing may have a claim that runs, may
	// have lost it, or may have used it up.
	open
	used
)

// nonces is the model: a nonce is granted to one caller at most, refused to nobody before
// somebody has come with it, and stays used for good. A caller without an answer leaves it
// open.
var nonces = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byNonce := map[string][]porcupine.Operation{}
		for _, op := range history {
			nonce := op.Input.(attempt).nonce
			byNonce[nonce] = append(byNonce[nonce], op)
		}
		var all [][]porcupine.Operation
		for _, ops := range byNonce {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return untouched },
	Step: func(state, _, output any) (bool, any) { return step(state.(nonceState), output.(outcome)) },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%s: %v", input.(attempt).nonce, output)
	},
}

func step(s nonceState, o outcome) (bool, nonceState) {
	switch o {
	case granted:
		return s != used, used
	case refused:
		return s != untouched, s
	case unknown:
		if s == untouched {
			return true, open
		}
		return true, s
	case isUsed:
		return s != untouched, used
	default: // isNotUsed
		return s != used, s
	}
}

// forEver is the end of an attempt without an answer: it may take effect whenever it likes.
const forEver = math.MaxInt64

// operation is an attempt as the checker takes it.
func operation(client int, a attempt, o outcome, began, ended time.Duration) porcupine.Operation {
	op := porcupine.Operation{ClientId: client, Input: a, Output: o, Call: int64(began), Return: int64(ended)}
	if o == unknown {
		op.Return = forEver
	}
	return op
}

// The checker finds what must not be, and takes what may be.
func TestHistoriesAreJudged(t *testing.T) {
	type at struct {
		o            outcome
		began, ended time.Duration
	}
	for name, tt := range map[string]struct {
		history []at
		linear  bool
	}{
		"used once":                             {[]at{{granted, 0, 10}}, true},
		"two at once, one refused":              {[]at{{granted, 0, 10}, {refused, 1, 5}}, true},
		"refused afterwards":                    {[]at{{granted, 0, 10}, {refused, 11, 12}}, true},
		"lost answer, then refused":             {[]at{{unknown, 0, 10}, {refused, 11, 12}}, true},
		"lost answer, refused, then granted":    {[]at{{unknown, 0, 10}, {refused, 11, 12}, {granted, 20, 21}}, true},
		"lost answer, then granted and refused": {[]at{{unknown, 0, 10}, {granted, 11, 12}, {refused, 20, 21}}, true},
		"lost answer, and used":                 {[]at{{unknown, 0, 10}, {isUsed, 20, 21}}, true},
		"lost answer, and not used":             {[]at{{unknown, 0, 10}, {isNotUsed, 20, 21}}, true},
		"granted, and used":                     {[]at{{granted, 0, 10}, {isUsed, 20, 21}}, true},

		"granted twice":                            {[]at{{granted, 0, 10}, {granted, 11, 12}}, false},
		"granted twice at once":                    {[]at{{granted, 0, 10}, {granted, 1, 9}}, false},
		"granted twice after a lost answer":        {[]at{{unknown, 0, 1}, {granted, 2, 10}, {granted, 11, 12}}, false},
		"refused to the first":                     {[]at{{refused, 0, 10}, {granted, 11, 12}}, false},
		"refused to the only one":                  {[]at{{refused, 0, 10}}, false},
		"refused before the lost answer was begun": {[]at{{refused, 0, 10}, {unknown, 11, 12}}, false},
		"granted, and not used":                    {[]at{{granted, 0, 10}, {isNotUsed, 20, 21}}, false},
		"refused to all, and used":                 {[]at{{refused, 0, 10}, {refused, 1, 9}, {isUsed, 20, 21}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			// Another nonce's history beside it changes nothing.
			history := []porcupine.Operation{operation(99, attempt{nonce: "other"}, granted, 0, 5)}
			for i, e := range tt.history {
				a := attempt{nonce: "n", look: e.o == isUsed || e.o == isNotUsed}
				history = append(history, operation(i, a, e.o, e.began, e.ended))
			}
			if got := porcupine.CheckOperations(nonces, history); got != tt.linear {
				t.Errorf("judged %v", got)
			}
		})
	}
}
