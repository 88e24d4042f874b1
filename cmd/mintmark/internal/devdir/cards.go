package devdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/secret"
)

// DemoCard is a card that development mode puts into the vault. The numbers are
// published test numbers that no issuer issues.
type DemoCard struct {
	ExternalCardID string
	Network        string
	Number         string
	Expiration     string
	Name           string
}

// DemoCards belong to the issuer client's subject. The first is a Mastercard for
// payload configuration 1.
var DemoCards = []DemoCard{
	{ExternalCardID: "demo-mastercard-1", Network: "mastercard", Number: "5204245250001488", Expiration: "12/49", Name: "John Appleseed"},
	{ExternalCardID: "demo-mastercard-2", Network: "mastercard", Number: "5555555555554444", Expiration: "06/48", Name: "Zoë \"Quote\" O'Brien-Łukasz"},
	{ExternalCardID: "demo-maestro-1", Network: "maestro", Number: "6759649826438453", Expiration: "01/47", Name: "Jane Appleseed"},
}

// cardsStored is the file that says the demo cards are in the vault.
const cardsStored = "cards-stored"

// StoreCards puts the demo cards into the vault, once for a directory.
func (d *Dir) StoreCards(ctx context.Context, svc *provisioning.Service) error {
	done := d.path(cardsStored)
	if _, err := os.Stat(done); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	who := provisioning.Caller{Owner: provisioning.Owner{Tenant: Tenant, Issuer: IssuerClient.Issuer, Subject: IssuerClient.Subject}, RequestID: "dev"}
	for _, c := range DemoCards {
		pan, err := secret.ParsePAN([]byte(c.Number))
		if err != nil {
			return fmt.Errorf("demo card %s: %w", c.ExternalCardID, err)
		}
		card := provisioning.Card{PAN: pan, Expiration: secret.NewText(c.Expiration), Name: secret.NewText(c.Name), Product: "mastercard"}
		if _, err := svc.StoreCard(ctx, who, c.ExternalCardID, card); err != nil {
			return fmt.Errorf("demo card %s: %w", c.ExternalCardID, err)
		}
	}
	// A crash before this line stores them again at the next start, in place.
	return writeFile(done, nil)
}
