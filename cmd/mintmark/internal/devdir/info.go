package devdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Info is dev.json: the contract that scripts rely on.
type Info struct {
	BaseURL  string `json:"baseUrl"`
	AdminURL string `json:"adminUrl"`
	DataDir  string `json:"dataDir"`
	PID      int    `json:"pid"`

	HSM     HSM     `json:"hsm"`
	Clients Clients `json:"clients"`
	Apple   Apple   `json:"apple"`
	Passes  Passes  `json:"passes"`
	Cards   []Card  `json:"cards"`
}

// Passes is the demo pass, and who may manage it: the issuer client.
type Passes struct {
	Tenant              string `json:"tenant"`
	PassTypeIdentifier  string `json:"passTypeIdentifier"`
	TeamIdentifier      string `json:"teamIdentifier"`
	SerialNumber        string `json:"serialNumber"`
	AuthenticationToken string `json:"authenticationToken"`
	RootCert            string `json:"rootCert"` // PEM
}

// HSM says where the token is.
type HSM struct {
	Module       string `json:"module"`
	TokenLabel   string `json:"tokenLabel"`
	PINFile      string `json:"pinFile"`
	SoftHSM2Conf string `json:"softhsm2Conf"`
}

// Clients are the development clients.
type Clients struct {
	Issuer   Client         `json:"issuer"`
	Merchant MerchantSigner `json:"merchant"`
}

// Client is one of them, with a ready bearer token.
type Client struct {
	Issuer   string `json:"iss"`
	KeyID    string `json:"kid"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"`
	KeyFile  string `json:"keyFile"`
	Token    string `json:"token"`
}

// MerchantSigner is the merchant client, whose tokens carry merchant claims.
type MerchantSigner struct {
	Client
	Claims map[string]any `json:"claims"`
}

// Sign makes a bearer token of the merchant client.
func (m MerchantSigner) Sign(now time.Time) (string, error) { return m.sign(now, m.Claims) }

// Apple is the simulated chain; all are paths of PEM files.
type Apple struct {
	RootCert string `json:"rootCert"`
	SubCert  string `json:"subCert"`
	LeafCert string `json:"leafCert"`
	LeafKey  string `json:"leafKey"`
}

// Card is a demo card.
type Card struct {
	ExternalCardID string `json:"externalCardId"`
	Network        string `json:"network"`
	Last4          string `json:"last4"`
}

func infoPath(root string) string { return filepath.Join(root, "dev.json") }

// TokenLife is how long a development bearer token lives.
const TokenLife = 15 * time.Minute

// Info describes the directory for a server at the two addresses, with the demo pass's
// authentication token.
func (d *Dir) Info(api, admin, passToken string) (Info, error) {
	files := d.AppleFiles()
	info := Info{
		BaseURL:  "http://" + api,
		AdminURL: "http://" + admin,
		DataDir:  d.Root,
		PID:      os.Getpid(),
		HSM:      HSM{Module: d.Module, TokenLabel: d.Token.Label, PINFile: d.Token.PINFile, SoftHSM2Conf: d.Token.ConfigFile},
		Apple:    Apple{RootCert: files.RootCert, SubCert: files.SubCert, LeafCert: files.LeafCert, LeafKey: files.LeafKey},
	}
	info.Passes = Passes{
		Tenant: Tenant, PassTypeIdentifier: PassType, TeamIdentifier: PassTeam, SerialNumber: PassSerial,
		AuthenticationToken: passToken, RootCert: d.path(passRoot),
	}
	for _, c := range DemoCards {
		info.Cards = append(info.Cards, Card{ExternalCardID: c.ExternalCardID, Network: c.Network, Last4: c.Number[len(c.Number)-4:]})
	}
	info.Clients.Issuer = d.client(IssuerClient)
	info.Clients.Merchant = MerchantSigner{Client: d.client(MerchantClient), Claims: MerchantClaims()}
	var err1, err2 error
	now := time.Now()
	info.Clients.Issuer.Token, err1 = info.Clients.Issuer.Sign(now)
	info.Clients.Merchant.Token, err2 = info.Clients.Merchant.Sign(now)
	return info, errors.Join(err1, err2)
}

func (d *Dir) client(c ClientName) Client {
	return Client{Issuer: c.Issuer, KeyID: c.KeyID, Audience: Audience, Subject: c.Subject, KeyFile: d.ClientKey(c)}
}

// Sign makes a bearer token of the client.
func (c Client) Sign(now time.Time) (string, error) { return c.sign(now, nil) }

func (c Client) sign(now time.Time, further map[string]any) (string, error) {
	key, err := LoadKey(c.KeyFile)
	if err != nil {
		return "", fmt.Errorf("sign bearer token: %w", err)
	}
	claims := jwt.MapClaims{
		"iss": c.Issuer, "sub": c.Subject, "aud": c.Audience, "jti": uuid.NewString(),
		"iat": now.Unix(), "exp": now.Add(TokenLife).Unix(),
	}
	maps.Copy(claims, further)
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, claims)
	t.Header["kid"] = c.KeyID
	token, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign bearer token: %w", err)
	}
	return token, nil
}

// Write makes dev.json, mode 0600: it holds a bearer token.
func (i Info) Write() error {
	b, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(infoPath(i.DataDir), append(b, '\n'))
}

// RemoveInfo removes dev.json: no server is ready here.
func RemoveInfo(root string) error {
	err := os.Remove(infoPath(root))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ErrNotRunning is returned where no development server is ready.
var ErrNotRunning = errors.New("no development server is ready here; start one with: mintmark dev")

// ReadInfo reads dev.json.
func ReadInfo(root string) (Info, error) {
	b, err := os.ReadFile(infoPath(root))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%s: %w", root, ErrNotRunning)
	}
	if err != nil {
		return Info{}, err
	}
	var i Info
	if err := json.Unmarshal(b, &i); err != nil {
		return Info{}, fmt.Errorf("%s: %w", infoPath(root), err)
	}
	return i, nil
}
