package devdir

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/passtest"
)

// The demo pass, and its type.
const (
	PassType   = "pass.dev.mintmark"
	PassTeam   = "DEVTEAM123"
	PassSerial = "demo-1"
)

// The certificates of passes, beside the keyring: that of the pass key with the simulated
// intermediate, and the simulated root.
const (
	passCertificate = "pass.crt"
	passRoot        = "pass-root.pem"
)

// makePassCertificate makes a pass certificate under a simulated Apple, or a new one when
// the old ends.
func (d *Dir) makePassCertificate(ctx context.Context) error {
	ring, err := hsm.LoadKeyring(d.keyring())
	if err != nil {
		return err
	}
	key, err := ring.Active(hsm.Pass)
	if err != nil {
		return err
	}
	_, rootErr := os.Stat(d.path(passRoot))
	if chain := key.Chain(); rootErr == nil && len(chain) > 0 && time.Now().Add(24*time.Hour).Before(chain[0].NotAfter) {
		return nil
	}
	t, err := hsm.Open(ctx, d.hsmConfig(ring))
	if err != nil {
		return err
	}
	pub, err := t.Public(key.Name)
	if err = errors.Join(err, t.Close(ctx)); err != nil {
		return err
	}
	authority, err := passtest.New(time.Now())
	if err != nil {
		return err
	}
	leaf, err := authority.Leaf(pub, passtest.For(PassType, PassTeam))
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range [][]byte{leaf.Raw, authority.Intermediate.Raw} {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Root.Raw})
	if err := errors.Join(writeFile(d.path(passRoot), root), writeFile(d.path(passCertificate), chain)); err != nil {
		return err
	}
	for i := range ring.Keys {
		if ring.Keys[i].Name == key.Name {
			ring.Keys[i].Certificate = passCertificate
		}
	}
	return ring.Save(d.keyring())
}

// StorePass puts the demo pass, unless it is there, and gives its authentication token.
func (d *Dir) StorePass(ctx context.Context, s *passes.Service) (token string, err error) {
	id := passes.ID{TypeID: passes.TypeID{Tenant: Tenant, Type: PassType}, Serial: PassSerial}
	stored, err := s.Get(ctx, id)
	if errors.Is(err, passes.ErrUnknown) {
		stored, err = putDemoPass(ctx, s, id)
	}
	if err != nil {
		return "", fmt.Errorf("store demo pass: %w", err)
	}
	return stored.Token, nil
}

// putDemoPass puts a store card: its images as the type's, the rest as its own.
func putDemoPass(ctx context.Context, s *passes.Service, id passes.ID) (passes.Stored, error) {
	who := passes.Caller{Issuer: IssuerClient.Issuer, Subject: IssuerClient.Subject}
	b, err := passkit.NewTemplate(passkit.StoreCard)
	if err != nil {
		return passes.Stored{}, err
	}
	files := passes.Files{}
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		if name == passkit.FilePass {
			continue
		}
		if files[name], err = s.PutFile(ctx, who, id.Tenant, b.Files[name]); err != nil {
			return passes.Stored{}, err
		}
	}
	template := jsontext.Value(`{"organizationName":"mintmark development","description":"Demo store card","backgroundColor":"rgb(20, 60, 120)","foregroundColor":"rgb(255, 255, 255)","labelColor":"rgb(200, 210, 230)"}`)
	if _, _, err := s.PutType(ctx, who, passes.TypeRow{TypeID: id.TypeID, Template: template, Files: files}, passes.Anything); err != nil {
		return passes.Stored{}, err
	}
	own, err := json.Marshal(map[string]any{
		"logoText":  "mintmark",
		"barcodes":  []any{map[string]any{"format": "PKBarcodeFormatQR", "message": PassSerial, "messageEncoding": "iso-8859-1"}},
		"storeCard": map[string]any{"primaryFields": []any{map[string]any{"key": "balance", "label": "BALANCE", "value": 25, "currencyCode": "EUR"}}},
	}, json.Deterministic(true))
	if err != nil {
		return passes.Stored{}, err
	}
	return s.Put(ctx, who, id, passes.Document{Pass: own}, passes.Anything)
}
