package signer_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// cardData stands for a card's data.
var cardData = []byte(`{"primaryAccountNumber":"5204245250001488","name":"Zoë"}`)

func sealRow(t testing.TB, gate *signer.Gate, tenant, id string) signer.VaultRow {
	t.Helper()
	row, err := gate.SealVault(context.Background(), ticket(record.StoreCard), tenant, id, slices.Clone(cardData))
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func openRow(gate *signer.Gate, tenant, id string, row signer.VaultRow) ([]byte, error) {
	return gate.OpenVault(context.Background(), ticket(record.SignCard), tenant, id, row)
}

func TestSealedRowOpensInItsPlace(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	var ivs [][]byte
	for range 5 {
		row := sealRow(t, gate, "bank", "row-1")
		if row.Key != string(hsm.CardVault) || len(row.IV) != 12 || len(row.Sealed) != len(cardData)+16 {
			t.Fatalf("row is %+v", row)
		}
		if slices.ContainsFunc(ivs, func(iv []byte) bool { return bytes.Equal(iv, row.IV) }) {
			t.Fatal("an IV was used twice")
		}
		ivs = append(ivs, row.IV)
		if bytes.Contains(row.Sealed, cardData[:8]) {
			t.Error("the data are in the row")
		}
		got, err := openRow(gate, "bank", "row-1", row)
		if err != nil || !bytes.Equal(got, cardData) {
			t.Errorf("opened %q, %v", got, err)
		}
	}
}

// The row's place is part of the seal: whoever can write the database cannot give one
// card's data to another row, tenant or key.
func TestRowThatWasMovedOrChangedDoesNotOpen(t *testing.T) {
	token := hsmtest.New(t, hsmtest.With(hsm.NewKey{Name: "vault-2", Purpose: hsm.CardVault, State: hsm.Next}))
	gate := signer.New(token.Token)
	row := sealRow(t, gate, "bank", "row-1")
	for name, tc := range map[string]struct {
		tenant, id string
		change     func(*signer.VaultRow)
	}{
		"another tenant":          {"other bank", "row-1", nil},
		"another row":             {"bank", "row-2", nil},
		"no tenant":               {"", "row-1", nil},
		"tenant and id shifted":   {"ban", "krow-1", nil},
		"tenant and id in one":    {"bankrow-1", "", nil},
		"another key of the sort": {"bank", "row-1", func(r *signer.VaultRow) { r.Key = "vault-2" }},
		"first bit":               {"bank", "row-1", func(r *signer.VaultRow) { r.Sealed[0] ^= 0x80 }},
		"last bit of the tag":     {"bank", "row-1", func(r *signer.VaultRow) { r.Sealed[len(r.Sealed)-1] ^= 1 }},
		"cut short":               {"bank", "row-1", func(r *signer.VaultRow) { r.Sealed = r.Sealed[:len(r.Sealed)-1] }},
		"without its tag":         {"bank", "row-1", func(r *signer.VaultRow) { r.Sealed = r.Sealed[:len(r.Sealed)-16] }},
		"shorter than a tag":      {"bank", "row-1", func(r *signer.VaultRow) { r.Sealed = r.Sealed[:15] }},
		"one byte more":           {"bank", "row-1", func(r *signer.VaultRow) { r.Sealed = append(r.Sealed, 0) }},
		"nothing":                 {"bank", "row-1", func(r *signer.VaultRow) { r.Sealed = nil }},
		"another IV":              {"bank", "row-1", func(r *signer.VaultRow) { r.IV[0] ^= 1 }},
		"IV of 16 bytes":          {"bank", "row-1", func(r *signer.VaultRow) { r.IV = append(r.IV, 0, 0, 0, 0) }},
		"no IV":                   {"bank", "row-1", func(r *signer.VaultRow) { r.IV = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			moved := signer.VaultRow{Key: row.Key, IV: slices.Clone(row.IV), Sealed: slices.Clone(row.Sealed)}
			if tc.change != nil {
				tc.change(&moved)
			}
			if got, err := openRow(gate, tc.tenant, tc.id, moved); err == nil || got != nil {
				t.Errorf("opened %q, %v", got, err)
			}
		})
	}
	if got, err := openRow(gate, "bank", "row-1", row); err != nil || !bytes.Equal(got, cardData) {
		t.Errorf("where it belongs: %q, %v", got, err)
	}
}

// A row names its key, and the database is not trusted with that name.
func TestRowOpensWithAVaultKeyAlone(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	row := sealRow(t, gate, "bank", "row-1")
	before := token.Calls()
	for name, says := range map[string]string{
		string(hsm.TAVSigning): "is for tav-signing",
		string(hsm.CardIndex):  "is for card-index",
		"no-such-key":          string(hsm.KeyNotListed),
		"":                     string(hsm.KeyNotListed),
	} {
		row.Key = name
		got, err := openRow(gate, "bank", "row-1", row)
		if got != nil || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: opened %q, %v", name, got, err)
		}
	}
	if token.Calls() != before {
		t.Errorf("the token was asked %d times", token.Calls()-before)
	}
}

func TestRetiredVaultKeyOpensAndSealsNothing(t *testing.T) {
	token := hsmtest.New(t, hsmtest.With(hsm.NewKey{Name: "vault-2", Purpose: hsm.CardVault, State: hsm.Next}))
	old := sealRow(t, signer.New(token.Token), "bank", "row-1")
	token.Reopen(t, func(ring *hsm.Keyring) {
		for i, k := range ring.Keys {
			switch k.Name {
			case string(hsm.CardVault):
				ring.Keys[i].State = hsm.Retired
			case "vault-2":
				ring.Keys[i].State = hsm.Active
			}
		}
	})
	gate := signer.New(token.Token)
	if got, err := openRow(gate, "bank", "row-1", old); err != nil || !bytes.Equal(got, cardData) {
		t.Errorf("the old row: %q, %v", got, err)
	}
	row := sealRow(t, gate, "bank", "row-2")
	if row.Key != "vault-2" {
		t.Errorf("sealed with %s", row.Key)
	}
	if got, err := openRow(gate, "bank", "row-2", row); err != nil || !bytes.Equal(got, cardData) {
		t.Errorf("the new row: %q, %v", got, err)
	}

	token.Reopen(t, func(ring *hsm.Keyring) {
		ring.Keys = slices.DeleteFunc(ring.Keys, func(k hsm.Key) bool { return k.Name == string(hsm.CardVault) })
	})
	var later interface{ RetryAfter() time.Duration }
	if _, err := openRow(signer.New(token.Token), "bank", "row-1", old); !errors.As(err, &later) {
		t.Errorf("a row whose key is not listed any more: %v", err)
	}
}

func TestCardIndexIsOneForEachTenantAndCard(t *testing.T) {
	token := hsmtest.New(t)
	gate := signer.New(token.Token)
	index := func(op record.Operation, tenant, id string) string {
		t.Helper()
		mac, err := gate.CardIndex(context.Background(), ticket(op), tenant, id)
		if err != nil || len(mac) != 32 {
			t.Fatalf("index of %d bytes, %v", len(mac), err)
		}
		return string(mac)
	}
	seen := map[string]string{}
	for _, c := range [][2]string{
		{"bank", "card-1"}, {"bank", "card-2"}, {"other bank", "card-1"}, {"bank", "CARD-1"},
		{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"", ""},
		{"a2:bc", ""}, {"a", "2:bc"}, {"a\x00", "bc"}, {"a", "\x00bc"}, {"1:a2:bc", ""},
		{"23aaaaaaaaa", "bbbbbbbbbbbb"}, {"1", "aaaaaaaaa12bbbbbbbbbbbb"}, // one and the same if lengths stood without an end
	} {
		stored, found := index(record.StoreCard, c[0], c[1]), index(record.SignCard, c[0], c[1])
		if stored != found {
			t.Errorf("%q: what is stored is not found", c)
		}
		if other, ok := seen[stored]; ok {
			t.Errorf("%q has the index of %s", c, other)
		}
		seen[stored] = c[0] + " and " + c[1]
	}
	before := index(record.SignCard, "bank", "card-1")
	token.Reopen(t, func(*hsm.Keyring) {})
	gate = signer.New(token.Token)
	if index(record.SignCard, "bank", "card-1") != before {
		t.Error("the index does not survive a restart")
	}
}

// One ticket opens one row; that of a search opens each row once.
func TestSearchOpensEachRowOnce(t *testing.T) {
	gate := signer.New(hsmtest.New(t).Token)
	rows := map[string]signer.VaultRow{"row-1": sealRow(t, gate, "bank", "row-1"), "row-2": sealRow(t, gate, "bank", "row-2")}
	for op, both := range map[record.Operation]bool{record.SearchCards: true, record.ReadCard: false} {
		tk := ticket(op)
		for i, id := range []string{"row-1", "row-2", "row-2"} {
			_, err := gate.OpenVault(context.Background(), tk, "bank", id, rows[id])
			if want := i == 0 || i == 1 && both; (err == nil) != want || err != nil && !errors.Is(err, record.ErrNoTicket) {
				t.Errorf("%s, row %d: %v", op, i, err)
			}
		}
	}
}
