package provisioning_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/signer"
)

// An import that is run again finishes what is missing and stores nothing twice.
func TestImportRunAgainStoresNothingTwice(t *testing.T) {
	w := newWorld(t)
	var lines []string
	for i := range 10 {
		lines = append(lines, w.encrypt(plain, map[jose.HeaderKey]any{"externalCardId": fmt.Sprint("import-", i), "jti": fmt.Sprint("import-", i), "sub": fmt.Sprint("user-", i)}))
	}
	run := func(n int) (stored, before int) {
		for _, l := range lines[:n] {
			switch err := w.svc.ImportCard(context.Background(), "bank", "import", l); {
			case errors.Is(err, provisioning.ErrMessageUsed):
				before++
			case err != nil:
				t.Fatal(err)
			default:
				stored++
			}
		}
		return stored, before
	}
	if stored, before := run(4); stored != 4 || before != 0 {
		t.Errorf("%d stored, %d before", stored, before)
	}
	mend := w.failEntries("operation")
	if err := w.svc.ImportCard(context.Background(), "bank", "import", lines[4]); err == nil {
		t.Error("stored without a record")
	}
	mend()
	if stored, before := run(10); stored != 6 || before != 4 {
		t.Errorf("%d stored, %d before", stored, before)
	}
	if n := w.count("SELECT COUNT(*) FROM cards"); n != len(demos)+10 {
		t.Errorf("%d cards are stored", n)
	}
	who := provisioning.Caller{Owner: provisioning.Owner{Tenant: "bank", Issuer: owner.Issuer, Subject: "user-7"}}
	if got, err := w.svc.GetCard(context.Background(), who, "import-7"); err != nil || got.Last4 != "5100" {
		t.Errorf("shown as %+v, %v", got, err)
	}
	if err := w.svc.ImportCard(context.Background(), "other bank", "import", w.encrypt(plain, nil)); !errors.Is(err, provisioning.ErrEncryptedCard) {
		t.Errorf("into another tenant: %v", err)
	}
}

// newVault has vault-2 take the place of the card-vault key that there is.
func (w *world) newVault() {
	w.Helper()
	made, _, err := w.token.Generate(context.Background(), hsm.NewKey{Name: "vault-2", Purpose: hsm.CardVault, State: hsm.Next}, time.Now())
	if err != nil {
		w.Fatal(err)
	}
	w.token.Reopen(w, func(ring *hsm.Keyring) {
		for i := range ring.Keys {
			if ring.Keys[i].Purpose == hsm.CardVault {
				ring.Keys[i].State = hsm.Retired
			}
		}
		made.State = hsm.Active
		ring.Keys = append(ring.Keys, made)
	})
	w.hands.Gate = signer.New(w.token.Token)
}

func TestRekeyMovesEveryCardAndTheCardsStayWhatTheyAre(t *testing.T) {
	w := newWorld(t)
	w.newVault()
	if payload := string(w.open(w.mustSign(w.request(demos[1].id, "00000001")))); !strings.Contains(payload, demos[1].pan) {
		t.Errorf("before: %s", payload)
	}
	step, err := w.svc.Rekey(context.Background(), provisioning.CardRow{})
	if err != nil || step.Moved != len(demos) || !step.Done {
		t.Fatalf("moved %+v, %v", step, err)
	}
	if n := w.count("SELECT COUNT(*) FROM cards WHERE vault_key <> 'vault-2'"); n != 0 {
		t.Errorf("%d cards are under the old key", n)
	}
	if payload := string(w.open(w.mustSign(w.request(demos[1].id, "00000002")))); !strings.Contains(payload, demos[1].pan) {
		t.Errorf("after: %s", payload)
	}
	if step, err := w.svc.Rekey(context.Background(), provisioning.CardRow{}); err != nil || step.Moved != 0 || !step.Done {
		t.Errorf("moved %+v more, %v", step, err)
	}
}

// A row that does not open holds up no other, and is named.
func TestRekeyGoesOnPastARowThatDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	w.newVault()
	w.execute("UPDATE cards SET sealed = zeroblob(length(sealed)) WHERE id = (SELECT MIN(id) FROM cards)")
	step, err := w.svc.Rekey(context.Background(), provisioning.CardRow{})
	if err != nil || step.Moved != len(demos)-1 || !step.Done || len(step.Stuck) != 1 {
		t.Fatalf("moved %+v, %v", step, err)
	}
	if n := w.count("SELECT COUNT(*) FROM cards WHERE vault_key <> 'vault-2' AND id = '" + step.Stuck[0].ID + "'"); n != 1 || step.Stuck[0].Owner.Tenant != "bank" {
		t.Errorf("stuck are %+v", step.Stuck)
	}
	w.hands.before["OpenVault"] = func() error { return errAway }
	if _, err := w.svc.Rekey(context.Background(), provisioning.CardRow{}); !errors.Is(err, errAway) {
		t.Errorf("with the token away: %v", err)
	}
}

// What another request has is not in: the line must be sent again.
func TestImportOfAMessageInUseIsToBeTriedAgain(t *testing.T) {
	w := newWorld(t)
	compact := w.encrypt(plain, nil)
	var during error
	w.hands.before["SealVault"] = func() error {
		delete(w.hands.before, "SealVault")
		during = w.svc.ImportCard(context.Background(), "bank", "import", compact)
		return errAway
	}
	if _, err := w.put(owner, "new-card", compact); !errors.Is(err, errAway) {
		t.Errorf("error is %v", err)
	}
	requireRetry(t, during)
	if errors.Is(during, provisioning.ErrMessageUsed) {
		t.Errorf("while it is in use: %v", during)
	}
	if err := w.svc.ImportCard(context.Background(), "bank", "import", compact); err != nil {
		t.Errorf("once it is free: %v", err)
	}
}
