package store_test

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/provisioning"
)

func TestLogIsInOrderAndWithoutGaps(t *testing.T) { onEach(t, testLogIsInOrderAndWithoutGaps) }

func testLogIsInOrderAndWithoutGaps(t *testing.T, e engine) {
	const writers, each = 50, 4
	s, _ := e.openNew(t)
	used := newClaim("used", noon, time.Minute)
	mustAppend(t, s, used)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				if err := appendTo(s); err != nil {
					t.Error(err)
				}
				if err := appendTo(s, newClaim("used", noon, time.Minute)); !errors.Is(err, provisioning.ErrNonceUsed) { // takes no number
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := entries(t, s)
	if len(got) != 1+writers*each {
		t.Fatalf("%d entries, want %d", len(got), 1+writers*each)
	}
	for i, e := range got {
		if e.Seq != uint64(i) {
			t.Fatalf("entry %d has number %d", i, e.Seq)
		}
	}
}

func TestEntriesAreReadAsTheyWereWritten(t *testing.T) {
	onEach(t, testEntriesAreReadAsTheyWereWritten)
}

func testEntriesAreReadAsTheyWereWritten(t *testing.T, e engine) {
	s, _ := e.openNew(t)
	want := []audit.Entry{
		{At: noon, Kind: audit.KindIntent, Ticket: "t1", Tenant: "bank", Body: []byte(`{"operation":"x"}`)},
		{At: noon.Add(time.Millisecond), Kind: audit.KindResult, Ticket: "t1", Tenant: "bank", Body: []byte(`{"outcome":"done"}`)},
		{At: noon.Add(-time.Hour), Kind: audit.KindRefusal, Tenant: "bänk 'quoted'", Body: []byte(`{"reason":"x"}`)},
		{At: noon.Add(time.Second), Kind: audit.KindLifecycle, Body: []byte(`{"event":"stop"}`)},
	}
	for i, e := range want {
		e.Seq = 1000 // the store's own to give
		e.At = e.At.In(time.FixedZone("elsewhere", 3600))
		if err := s.Append(context.Background(), e, nil); err != nil {
			t.Fatal(err)
		}
		want[i].Seq = uint64(i)
	}
	for _, tc := range []struct {
		from  uint64
		limit int
		want  []audit.Entry
	}{
		{0, 100, want},
		{0, 4, want},
		{0, 2, want[:2]},
		{1, 2, want[1:3]},
		{3, 100, want[3:]},
		{4, 100, nil},
		{0, 0, nil},
		{math.MaxInt64, 1, nil},
	} {
		got, err := s.Read(context.Background(), tc.from, tc.limit)
		if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
			t.Errorf("from %d, at most %d: %v, %s", tc.from, tc.limit, err, diff)
		}
	}
}
