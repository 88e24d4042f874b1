// Command go is the issuer's and the merchant's calls with the generated client: a sealed card,
// a merchant token, an Apple proximity token, a pass. It needs a development server (make run):
//
//	go run ./examples/go [DIR]   # DIR is the development server's; default .mintmark
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/mintmark/mintmark/httpapi/client"
)

func main() {
	dir := ".mintmark"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	if err := journey(context.Background(), dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// development is what of dev.json is needed here. Its token is a JWT that the client signed
// with its own key; it lives for 15 minutes.
type development struct {
	BaseURL string
	Clients struct{ Issuer struct{ Token string } }
	Apple   struct{ LeafCert, SubCert string }
	Passes  struct{ Tenant, PassTypeIdentifier, SerialNumber, AuthenticationToken string }
	Cards   []struct{ ExternalCardID string }
}

func journey(ctx context.Context, dir string) error {
	var dev development
	b, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	if err == nil {
		err = json.Unmarshal(b, &dev)
	}
	if err != nil {
		return fmt.Errorf("no development server in %s: %w", dir, err)
	}
	c, err := client.New(dev.BaseURL, func(context.Context) (string, error) { return dev.Clients.Issuer.Token, nil })
	if err != nil {
		return err
	}
	if err := seal(ctx, c, dev); err != nil {
		return err
	}
	merchant, err := merchantToken(ctx, c)
	if err != nil {
		return err
	}
	if err := proximityToken(ctx, c, merchant); err != nil {
		return err
	}
	return pass(ctx, c, dev)
}

// refused is the error that an answer is: by its type, which is stable.
func refused(call string, body []byte) error {
	p, err := client.ProblemOf(body)
	if err != nil {
		return fmt.Errorf("%s: %w", call, err)
	}
	return fmt.Errorf("%s: %s", call, p.Type)
}

// seal has a card sealed, and tries the same nonce again.
func seal(ctx context.Context, c *client.ClientWithResponses, dev development) error {
	var chain []string // as PKAddPaymentPassViewController hands it over; here the simulated Apple's
	for _, path := range []string{dev.Apple.LeafCert, dev.Apple.SubCert} {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		block, _ := pem.Decode(b)
		if block == nil {
			return fmt.Errorf("%s holds no certificate", path)
		}
		chain = append(chain, base64.StdEncoding.EncodeToString(block.Bytes))
	}
	fresh := make([]byte, 84)
	_, _ = rand.Read(fresh) // never fails (crypto/rand)
	request := client.SignCardRequest{
		ExternalCardId: &dev.Cards[0].ExternalCardID, Certificates: &chain,
		Nonce: hex.EncodeToString(fresh[:4]), NonceSignature: "40" + hex.EncodeToString(fresh[4:]),
	}
	res, err := c.SignCardWithResponse(ctx, request)
	if err != nil {
		return err
	}
	if res.JSON200 == nil {
		return refused("signed-cards", res.Body)
	}
	fmt.Printf("1. A card is sealed: %d bytes of encryptedData\n", len(res.JSON200.EncryptedData))

	res, err = c.SignCardWithResponse(ctx, request)
	if err != nil {
		return err
	}
	if p, err := client.ProblemOf(res.Body); err != nil || p.Type != client.ProblemNonceUsed {
		return fmt.Errorf("the same nonce again is answered %d", res.StatusCode())
	}
	fmt.Println("2. The same nonce again is refused: the app would start again")
	return nil
}

func merchantToken(ctx context.Context, c *client.ClientWithResponses) (string, error) {
	shop, category, terminal := "Corner Shop", "5411", "00000001"
	res, err := c.SignMerchantTokenWithResponse(ctx, client.MerchantTokenRequest{
		Sub: "merchant-user-17", Usr: "cashier@shop.example", Aud: "mintmark-dev", Mbn: &shop, Mcc: &category, XTid: &terminal,
	})
	if err != nil {
		return "", err
	}
	if res.JSON200 == nil {
		return "", refused("merchant-tokens", res.Body)
	}
	fmt.Printf("3. A merchant JWT, until %v\n", res.JSON200.ExpiresAt)
	return res.JSON200.Token, nil
}

// proximityToken is what the app asks for, with the merchant JWT as its bearer token.
func proximityToken(ctx context.Context, c *client.ClientWithResponses, merchant string) error {
	res, err := c.CreateAppleProximityTokenWithResponse(ctx, with("Bearer "+merchant))
	if err != nil {
		return err
	}
	if res.JSON200 == nil {
		return fmt.Errorf("proximity-token is answered %d: %s", res.StatusCode(), res.Body) // no problem document
	}
	fmt.Printf("4. An Apple proximity token, %s\n", res.JSON200.JwtId)
	return nil
}

// with sends a call under an authorization of its own.
func with(authorization string) client.RequestEditorFn {
	return func(_ context.Context, req *http.Request) error {
		req.Header.Set("Authorization", authorization)
		return nil
	}
}

// pass changes the demo pass as its issuer, and fetches it as a phone.
func pass(ctx context.Context, c *client.ClientWithResponses, dev development) error {
	p := dev.Passes
	balance := map[string]any{"key": "balance", "label": "BALANCE", "value": 44, "currencyCode": "EUR"}
	put, err := c.PutPassWithResponse(ctx, p.Tenant, p.PassTypeIdentifier, p.SerialNumber, nil, client.PassDocument{
		Pass: map[string]any{"storeCard": map[string]any{"primaryFields": []any{balance}}},
	})
	if err != nil {
		return err
	}
	if put.JSON200 == nil {
		return refused("the pass", put.Body)
	}
	got, err := c.FetchPassWithResponse(ctx, p.Tenant, "v1", p.PassTypeIdentifier, p.SerialNumber, nil, with("ApplePass "+p.AuthenticationToken))
	if err != nil {
		return err
	}
	if got.StatusCode() != http.StatusOK {
		return refused("the pass, for a phone", got.Body)
	}
	if !bytes.HasPrefix(got.Body, []byte("PK")) {
		return errors.New("the pass is no ZIP archive")
	}
	fmt.Printf("5. The pass, version %d, %d bytes\n", *put.JSON200.Version, len(got.Body))
	return nil
}
