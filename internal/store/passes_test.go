package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
)

func TestPassIsReadWithItsTypeAndListedAfterRegistering(t *testing.T) {
	onEach(t, func(t *testing.T, e engine) {
		s, _ := e.openNew(t)
		ctx := context.Background()
		id := passes.ID{TypeID: passes.TypeID{Tenant: "shop", Type: "pass.a"}, Serial: "1"}
		row := passes.PassRow{ID: id, Ref: 7, Document: []byte(`{}`), Token: "token"}
		mustAppend(t, s, passes.PassPut{Row: &row, Now: noon})
		got, _, err := s.PassOf(ctx, id)
		if err != nil || got.Ref != 7 || got.Version != 1 {
			t.Errorf("read %+v, %v", got, err)
		}
		if _, _, err := s.PassOf(ctx, passes.ID{TypeID: id.TypeID, Serial: "2"}); !errors.Is(err, passes.ErrUnknown) {
			t.Errorf("another serial: %v", err)
		}
		r := passes.Registration{Pass: got, PushToken: "push", Client: "apple", At: noon.Add(-time.Hour)}
		if created, err := s.Register(ctx, r); err != nil || !created {
			t.Errorf("created %v, %v", created, err)
		}
		for since, want := range map[int64]int{0: 1, got.Stamp: 1, got.Stamp + 1: 0, got.Stamp + 2: 1} {
			if all, err := s.ChangedSince(ctx, r.Device, id.TypeID, since); err != nil || len(all) != want {
				t.Errorf("since %d: %v, %v", since-got.Stamp, all, err)
			}
		}
	})
}
