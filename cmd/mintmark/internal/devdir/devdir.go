// Package devdir makes what development mode needs under one directory, and describes
// it to scripts in dev.json:
//
//	softhsm/         a SoftHSM token of its own, with its PIN
//	keyring.yaml     the keys on it
//	merchant-jwt.crt a certificate of the key of merchant JWTs
//	pass.crt         a simulated certificate of the key of passes; pass-root.pem its root
//	keys/            the public halves, PEM, and the network's copy of the zone key
//	apple/           a simulated Apple chain, and Apple's leaf key
//	clients/         the clients' own key pairs, PEM
//	mintmark.yaml    the configuration, written anew at each start
//	mintmark.db      the database
//	notices.jsonl    what the simulated network was told, passcodes among it
//	dev.json         while the server runs: where everything is
//	.mintmark-dev    says that these are ours
//
// Other files there are left alone. If one of these names is taken before the directory
// is ours, nothing is made.
//
// Nothing here protects anything: whoever reads the directory has every key.
package devdir

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/softhsm"
)

// The names by which development mode is known everywhere.
const (
	Environment = config.Development
	Member      = "dev"
	TokenLabel  = "mintmark-dev"
	Tenant      = "dev"
	Audience    = "mintmark-dev"
)

// The clients: one that holds every right of the issuer APIs, and a merchant, which may
// create Apple proximity tokens and nothing else.
var (
	IssuerClient   = ClientName{File: "issuer", Issuer: "dev-issuer", KeyID: "dev-issuer-1", Subject: "dev-user"}
	MerchantClient = ClientName{File: "merchant", Issuer: "dev-merchant", KeyID: "dev-merchant-1", Subject: "dev-merchant-user"}
)

// MerchantIssuer is the iss of merchant JWTs that the server itself signs.
const MerchantIssuer = "dev-mint"

// MerchantClaims are the merchant claims of the merchant client's tokens.
func MerchantClaims() map[string]any {
	return map[string]any{
		"usr":              "dev-cashier",
		"mbn":              "Demo Corner Shop",
		"mcc":              "5411",
		"x-tid":            TerminalProfile,
		"tpid":             "dev-provider",
		"refresh_token":    false,
		"aud_fingerprints": "sha256/zc6c97JhKPZUa+rIrVqjknDE1lDcDK77G41sDo+1ay0=",
	}
}

// The one acquirer, and the one terminal that it has.
const (
	Acquirer        = "dev-acquirer"
	TerminalProfile = "00000001"
)

// ClientName is what a development client is called.
type ClientName struct{ File, Issuer, KeyID, Subject string }

var clientNames = []ClientName{IssuerClient, MerchantClient}

// Dir is a made directory.
type Dir struct {
	Root   string // absolute
	Module string // the PKCS#11 library to load
	Token  *softhsm.Token
	Apple  *appletest.Issued

	held *os.File // the marker, locked
}

// noticesFile is where the simulated network writes what it is told.
const noticesFile = "notices.jsonl"

func (d *Dir) path(elem ...string) string { return filepath.Join(append([]string{d.Root}, elem...)...) }

// Config is the path of the configuration.
func (d *Dir) Config() string { return d.path("mintmark.yaml") }

// AppleFiles are the paths of the simulated Apple chain.
func (d *Dir) AppleFiles() appletest.Files { return appletest.FilesIn(d.path("apple")) }

// ClientKey is the path of a client's private key.
func (d *Dir) ClientKey(c ClientName) string { return d.path("clients", c.File+".pem") }

func (d *Dir) clientPublicKey(c ClientName) string { return d.path("clients", c.File+".pub.pem") }

// PublicKey is the path of the public half of a purpose's active key.
func PublicKey(root string, p hsm.Purpose) string {
	return filepath.Join(root, "keys", string(p)+".pem")
}

// Make makes what is missing under root, which may exist and hold foreign files. module
// is any PKCS#11 library with a SoftHSM behind it; empty for the SoftHSM found. A
// second call finds everything there and changes nothing; dev.json of a server that was killed
// is removed. While another server works there it is refused with ErrRunning. The caller
// releases what it gives.
func Make(ctx context.Context, root, module string) (*Dir, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("make development directory: %w", err)
	}
	d := &Dir{Root: abs, Module: module}
	for _, step := range []func() error{d.claim, d.hold, func() error { return RemoveInfo(abs) }} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("make development directory %s: %w", abs, err)
		}
	}
	for _, dir := range []string{"", "keys", "clients"} {
		if err := os.MkdirAll(d.path(dir), 0o700); err != nil {
			return nil, fmt.Errorf("make development directory: %w", err)
		}
	}
	steps := []func(context.Context) error{d.makeToken, d.makeKeys, d.makeCertificate, d.makePassCertificate, d.makeApple, d.makeClients}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("make development directory %s: %w", abs, err)
		}
	}
	return d, nil
}

// marker is the file that says that a directory is ours.
func (d *Dir) marker() string { return d.path(".mintmark-dev") }

// ErrRunning is returned for a directory that another development server works in.
var ErrRunning = errors.New("a development server runs in it already; stop it, or choose another directory with --data")

// hold takes the directory for this process until it ends, or says that another has it: what
// a second server wrote here would be read by the first one's clients.
func (d *Dir) hold() error {
	f, err := os.OpenFile(d.marker(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(ErrRunning, f.Close())
	}
	d.held = f
	return nil
}

// Release gives the directory up, of a Make that succeeded. It is to be called however short the
// process lives on: a Dir that nothing refers to any more is collected, and its lock with it.
func (d *Dir) Release() error { return d.held.Close() }

// ErrForeign is returned for a directory where a name that is needed belongs to somebody
// else: a folder of sources called softhsm, a real configuration, a real key.
var ErrForeign = errors.New("was not made by mintmark dev; choose another directory with --data")

// claim makes the directory ours, once, before anything in it is written or removed.
func (d *Dir) claim() error {
	marker := d.marker()
	if _, err := os.Stat(marker); err == nil {
		return nil
	}
	apple := d.AppleFiles()
	names := []string{
		d.path("softhsm"), d.keyring(), d.Config(), d.path("mintmark.db"), d.path(cardsStored), d.path(merchantCertificate), d.path(passCertificate), d.path(passRoot), d.path(noticesFile),
		apple.RootCert, apple.SubCert, apple.LeafCert, apple.LeafKey,
	}
	for _, c := range clientNames {
		names = append(names, d.ClientKey(c), d.clientPublicKey(c))
	}
	names = append(names, ZoneKey(d.Root))
	for _, p := range hsm.Purposes() {
		names = append(names, PublicKey(d.Root, p))
	}
	for _, path := range names {
		if _, err := os.Lstat(path); err == nil {
			name, _ := filepath.Rel(d.Root, path)
			return fmt.Errorf("%s is there and %w", name, ErrForeign)
		}
	}
	if err := os.MkdirAll(d.Root, 0o700); err != nil {
		return err
	}
	return writeFile(marker, nil)
}

func (d *Dir) makeToken(context.Context) error {
	// A token without a keyring is one whose keys were being made when it stopped. Both
	// are ours, and made together.
	if _, err := os.Stat(d.keyring()); errors.Is(err, fs.ErrNotExist) {
		if err := os.RemoveAll(d.path("softhsm")); err != nil {
			return err
		}
	}
	token, err := softhsm.Create(d.path("softhsm"), TokenLabel)
	if err != nil {
		return err
	}
	d.Token = token
	if d.Module == "" {
		d.Module = token.Module
	}
	if d.Module, err = filepath.Abs(d.Module); err != nil {
		return err
	}
	return token.Setenv()
}

func (d *Dir) keyring() string { return d.path("keyring.yaml") }

// makeKeys makes a key of each purpose that has none yet, and writes the keyring.
func (d *Dir) makeKeys(ctx context.Context) error {
	ring := &hsm.Keyring{Environment: Environment}
	if _, err := os.Stat(d.keyring()); err == nil {
		if ring, err = hsm.LoadKeyring(d.keyring()); err != nil {
			return err
		}
	}
	var missing []hsm.Purpose
	for _, p := range hsm.Purposes() {
		if len(ring.Listed(p)) == 0 {
			missing = append(missing, p)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	t, err := hsm.Open(ctx, d.hsmConfig(ring))
	if err != nil {
		return err
	}
	keys := slices.Clone(ring.Keys)
	for _, p := range missing {
		k, err := d.makeKey(ctx, t, hsm.NewKey{Name: "dev-" + string(p), Purpose: p})
		if err != nil {
			return errors.Join(err, t.Close(ctx))
		}
		keys = append(keys, k)
	}
	if err := t.Close(ctx); err != nil {
		return err
	}
	return (&hsm.Keyring{Environment: Environment, Keys: keys}).Save(d.keyring())
}

// makeKey makes a key in the token. The zone key is one that a network has, too: it is made
// here, imported, and its value kept for whoever plays the network.
func (d *Dir) makeKey(ctx context.Context, t *hsm.Token, n hsm.NewKey) (hsm.Key, error) {
	if n.Purpose != hsm.VisaZone {
		k, _, err := t.Generate(ctx, n, time.Now())
		return k, err
	}
	value := make([]byte, 24)
	_, _ = rand.Read(value) // never fails (crypto/rand)
	if err := writeFile(ZoneKey(d.Root), []byte(hex.EncodeToString(value))); err != nil {
		return hsm.Key{}, err
	}
	return t.ImportTDEA(ctx, n, value, time.Now())
}

// ZoneKey is the path of the network's copy of the zone key, in hex.
func ZoneKey(root string) string { return filepath.Join(root, "keys", "visa-zone.hex") }

// hsmConfig is how the token is opened while the directory is made.
func (d *Dir) hsmConfig(ring *hsm.Keyring) hsm.Config {
	return hsm.Config{
		Name: Member, Module: d.Module, TokenLabel: d.Token.Label, TokenSerial: d.Token.Serial,
		PINFile: d.Token.PINFile, Keyring: ring, Log: slog.New(slog.DiscardHandler),
		CallTimeout: 2 * time.Minute, // keys are made here, on whatever machine it is
	}
}

// makeApple makes the simulated chain, or a new one when the old has ended.
func (d *Dir) makeApple(context.Context) error {
	var err error
	d.Apple, err = appletest.ReadDir(d.path("apple"))
	soon := time.Now().Add(24 * time.Hour)
	if err == nil && soon.Before(d.Apple.Leaf.NotAfter) && soon.Before(d.Apple.Sub.NotAfter) && soon.Before(d.Apple.Root.NotAfter) {
		return nil
	}
	authority, err := appletest.New(time.Now())
	if err != nil {
		return err
	}
	if d.Apple, err = authority.Leaf(); err != nil {
		return err
	}
	return d.Apple.WriteDir(d.path("apple"))
}

// makeClients makes the clients' key pairs.
func (d *Dir) makeClients(context.Context) error {
	for _, c := range clientNames {
		if err := d.makeClient(c); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) makeClient(c ClientName) error {
	if _, err := LoadKey(d.ClientKey(c)); err == nil {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// The public half first: the private one is what marks the pair as made.
	if err := writePublicKey(d.clientPublicKey(c), key.Public()); err != nil {
		return err
	}
	return writeFile(d.ClientKey(c), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// WritePublicKeys writes the public halves of the token's keys, so that others can
// verify what the token signs.
func (d *Dir) WritePublicKeys(t *hsm.HSM) error {
	for _, p := range []hsm.Purpose{hsm.TAVSigning, hsm.NetworkOTP, hsm.CardTransport, hsm.MerchantJWT, hsm.ProximityToken, hsm.AuditCheckpoint, hsm.ConnectorJWS} {
		k, err := t.Active(p)
		if err != nil || !k.Algorithm.Public() {
			continue // a key that is not usable is reported where it is needed
		}
		pub, err := t.Public(k.Name)
		if err != nil {
			return err
		}
		if err := writePublicKey(PublicKey(d.Root, p), pub); err != nil {
			return err
		}
	}
	return nil
}

// LoadKey reads a client's private key.
func LoadKey(path string) (*rsa.PrivateKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds no RSA key", path)
	}
	return private, nil
}

func writePublicKey(path string, pub crypto.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return err
	}
	return writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// writeFile replaces a file whole, readable by its owner alone.
func writeFile(path string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(b)
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
