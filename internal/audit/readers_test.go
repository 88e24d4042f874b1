package audit_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
)

// A proof convinces an implementation that shares nothing with ours, with nothing but
// the proof and the key.
func TestProofIsThatOfTheSpecification(t *testing.T) {
	s := lived(t)
	for seq := range uint64(16) {
		text, err := audit.Prove(context.Background(), s.store, seq)
		if err != nil {
			t.Fatal(err)
		}
		head, signed, _ := strings.Cut(text, "\n\n")
		lines := strings.Split(head, "\n")
		if lines[0] != "c2sp.org/tlog-proof@v1" || lines[2] != fmt.Sprintf("index %d", seq) {
			t.Fatalf("proof %q", text)
		}
		leaf, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra "))
		if err != nil {
			t.Fatal(err)
		}
		var path [][]byte
		for _, l := range lines[3:] {
			h, err := base64.StdEncoding.DecodeString(l)
			if err != nil {
				t.Fatal(err)
			}
			path = append(path, h)
		}
		c, err := audit.ParseCheckpoint(signed)
		if err != nil {
			t.Fatal(err)
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, seq, c.Size, rfc6962.DefaultHasher.HashLeaf(leaf), path, c.Root[:]); err != nil {
			t.Errorf("entry %d: %v", seq, err)
		}
		if err := c.Verify(checkpointKey(t, s)); err != nil {
			t.Error(err)
		}
	}
	if err := s.card(); err != nil {
		t.Fatal(err)
	}
	for seq, want := range map[uint64]string{16: "no checkpoint covers", 99: "no entry 99"} {
		if _, err := audit.Prove(context.Background(), s.store, seq); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("entry %d: %v", seq, err)
		}
	}
}

func TestSearchFindsByEachCondition(t *testing.T) {
	s := lived(t)
	search := func(f audit.Filter) []uint64 {
		t.Helper()
		var found []uint64
		err := audit.Each(context.Background(), s.store, 0, func(r audit.Row) error {
			if f.Matches(r) {
				found = append(found, r.Seq)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	rows, err := s.store.Rows(context.Background(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		filter audit.Filter
		want   []uint64
	}{
		"tenant":                  {audit.Filter{Tenant: "nobody"}, nil},
		"kind":                    {audit.Filter{Kind: audit.KindRefusal}, []uint64{7}},
		"operation":               {audit.Filter{Operation: string(record.StoreCard)}, []uint64{1, 2, 13}},
		"operation and kind":      {audit.Filter{Operation: string(record.SignCard), Kind: audit.KindOperation}, []uint64{12}},
		"results of an operation": {audit.Filter{Operation: string(record.SignCard), Kind: audit.KindResult}, []uint64{4, 6, 9, 11, 15}},
		"ticket":                  {audit.Filter{Ticket: rows[3].Ticket}, []uint64{3, 4}},
		"ref":                     {audit.Filter{Ref: "card-1"}, []uint64{1}},
		"digest of an output":     {audit.Filter{Ref: fmt.Sprintf("%x", sha256.Sum256([]byte("output 2")))}, []uint64{6}},
		"part of a value":         {audit.Filter{Ref: "card-"}, nil},
		"since":                   {audit.Filter{Since: kept.Add(time.Second)}, []uint64{13, 14, 15}},
		"until":                   {audit.Filter{Until: kept.Add(time.Second), Kind: audit.KindLifecycle}, []uint64{0}},
	} {
		if diff := cmp.Diff(tc.want, search(tc.filter)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}
