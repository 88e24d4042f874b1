// Package config is the configuration, and its own manual: every field says what it
// means, its unit, its default and whether a change needs a restart.
//
// The file is one YAML document. Unknown members are refused with their line. Each
// scalar can be set by the environment as MINTMARK_ and the path in upper case with
// underscores: api.listen is MINTMARK_API_LISTEN, pushProvisioning.nonceLease is
// MINTMARK_PUSH_PROVISIONING_NONCE_LEASE. Secrets are never values here, only the names
// of files that hold them. Paths are taken from the folder of the file.
//
//	cfg, err := config.Load("/etc/mintmark/mintmark.yaml", os.Environ())
//
// At present every change needs a restart.
package config

import (
	"path/filepath"
	"time"
)

// The environments.
const (
	Development = "development" // simulated Apple, SoftHSM, plain HTTP on loopback
	Test        = "test"        // a test root; real or simulated HSM
	Production  = "production"  // Apple's root; refuses what only development may have
)

// Config is the whole of it.
type Config struct {
	// Environment is development, test or production. It has no default. It is stamped
	// into the database and stands in the keyring; a mismatch refuses to start.
	Environment string `yaml:"environment"`
	// API is the listener for issuers' backends.
	API API `yaml:"api"`
	// Admin is the listener for health and metrics.
	Admin Admin `yaml:"admin"`
	// HSM says which tokens hold the keys.
	HSM HSM `yaml:"hsm"`
	// Keyring is the path of the keyring file, the reviewed list of keys. Required.
	Keyring string `yaml:"keyring"`
	// Store says where the database is.
	Store Store `yaml:"store"`
	// DataDir is a folder for what must survive a restart beside the database: PIN files
	// that a token refused. Default: the folder of store.sqlite; required with
	// store.postgres.
	DataDir string `yaml:"dataDir"`
	// Clients are those who may call. Nobody else may.
	Clients []Client `yaml:"clients"`
	// PushProvisioning is the sealing of cards for Apple Wallet.
	PushProvisioning PushProvisioning `yaml:"pushProvisioning"`
	// Log says what is logged, and how.
	Log Log `yaml:"log"`

	digest  string
	ignored []string
}

// API is the listener for issuers' backends.
type API struct {
	// Listen is host:port. Default 127.0.0.1:8080.
	Listen string `yaml:"listen"`
	// TLS is required unless Listen is a loopback address.
	TLS *TLS `yaml:"tls"`
	// RequestTimeout bounds one request, waiting for the token included. Default 15s.
	RequestTimeout time.Duration `yaml:"requestTimeout"`
}

// TLS is a server certificate in files.
type TLS struct {
	// CertificateFile is the chain in PEM, leaf first.
	CertificateFile string `yaml:"certificateFile"`
	// KeyFile is its private key in PEM: the one private key that may stand outside the
	// token.
	KeyFile string `yaml:"keyFile"`
}

// Admin is the listener for health and metrics: plain HTTP, loopback only.
type Admin struct {
	// Listen is host:port of a loopback address. Default 127.0.0.1:9090.
	Listen string `yaml:"listen"`
}

// HSM says which tokens hold the keys.
type HSM struct {
	// Policy says which member is asked first: failover (the first that is ready, in
	// order) or spread (the ready ones in turn). Default failover.
	Policy string `yaml:"policy"`
	// CallTimeout is how long a call may stay inside a module before the module is
	// quarantined. Default 10s.
	CallTimeout time.Duration `yaml:"callTimeout"`
	// DrainTimeout is how long a quarantined module's calls are awaited before the
	// process ends with status 4, for its supervisor to start it anew. Default 5s.
	DrainTimeout time.Duration `yaml:"drainTimeout"`
	// KeepAlive is how often an idle member is asked for a real signature. Default 60s.
	KeepAlive time.Duration `yaml:"keepAlive"`
	// Environment is set before a module is loaded, for vendors' libraries that take
	// their configuration so (SOFTHSM2_CONF, ChrystokiConfigurationPath). It holds for
	// the whole process.
	Environment map[string]string `yaml:"environment"`
	// Members are the tokens, with the same keys on each. For one to survive another's
	// loss each needs a module of its own: tokens behind one library come back together.
	Members []Member `yaml:"members"`
}

// Member is one token.
type Member struct {
	// Name is the member's name in the keyring's pins, in logs and in metrics. Required.
	Name string `yaml:"name"`
	// Module is the path of the PKCS#11 library. Required.
	Module string `yaml:"module"`
	// TokenLabel and TokenSerial choose the token; at least one. Slot numbers are never
	// used.
	TokenLabel  string `yaml:"tokenLabel"`
	TokenSerial string `yaml:"tokenSerial"`
	// PINFile holds the user PIN and nothing else; mode 0400 or 0600. Required.
	PINFile string `yaml:"pinFile"`
	// SignaturesOnly says that the token has no key agreement: it signs, and other members
	// seal. Default false.
	SignaturesOnly bool `yaml:"signaturesOnly"`
	// RSAConcurrency bounds RSA operations in flight. Default twice the cores; for a
	// network HSM the vendor's figure.
	RSAConcurrency int `yaml:"rsaConcurrency"`
	// ECConcurrency bounds key agreements and secret-key operations in flight. Default
	// the cores.
	ECConcurrency int `yaml:"ecConcurrency"`
}

// Store says where the database is: exactly one of the two.
type Store struct {
	// SQLite is the path of the database file.
	SQLite string `yaml:"sqlite"`
	// Postgres is a PostgreSQL database.
	Postgres Postgres `yaml:"postgres"`
}

// Postgres is a PostgreSQL database, 14 or later, of which this service is the owner.
type Postgres struct {
	// DSNFile holds the connection string (key=value pairs or a URL) and nothing else;
	// mode 0400 or 0600, for it may hold a password.
	DSNFile string `yaml:"dsnFile"`
}

// Client is one caller: the issuer of bearer tokens (RS256 JWTs).
type Client struct {
	// Issuer is the iss of its tokens, unique among clients. Required.
	Issuer string `yaml:"issuer"`
	// Tenant is whose data it works on. Required.
	Tenant string `yaml:"tenant"`
	// Audience is the one aud its tokens must have. Required.
	Audience string `yaml:"audience"`
	// Keys verify its tokens; more than one while a key is being changed. Required.
	Keys []ClientKey `yaml:"keys"`
	// Rights are what it may do: signCards.
	Rights []string `yaml:"rights"`
	// MaxLifetime bounds exp - iat. Default 15m, at most 24h.
	MaxLifetime time.Duration `yaml:"maxLifetime"`
	// Leeway is the clock difference allowed. Default 10s, at most 30s.
	Leeway time.Duration `yaml:"leeway"`
}

// ClientKey is a client's public key.
type ClientKey struct {
	// ID is the kid of tokens signed with it.
	ID string `yaml:"kid"`
	// PublicKeyFile is the key in PEM (SPKI), or a certificate that holds it.
	PublicKeyFile string `yaml:"publicKeyFile"`
}

// PushProvisioning is the sealing of cards for Apple Wallet.
type PushProvisioning struct {
	// TestRootFile is the root certificate (PEM or DER) trusted in place of Apple's, in
	// development and test. Production refuses it, and trusts Apple Root CA - G3.
	TestRootFile string `yaml:"testRootFile"`
	// NonceLease is how long a nonce stays claimed by a request that never ends. It
	// must be longer than api.requestTimeout. Default 60s.
	NonceLease time.Duration `yaml:"nonceLease"`
	// NonceLength and NonceSignatureLength are in bytes. Default 4 and 81, as seen in
	// the field.
	NonceLength          int `yaml:"nonceLength"`
	NonceSignatureLength int `yaml:"nonceSignatureLength"`
	// TAV is Mastercard's activation data.
	TAV TAV `yaml:"tav"`
}

// TAV is Mastercard's Tokenization Authentication Value.
type TAV struct {
	// Version is 3 or 4. Default 3.
	Version string `yaml:"version"`
	// KeyAlias is the network's name of the tav-signing key; version 4 only.
	KeyAlias string `yaml:"keyAlias"`
	// Validity is how far ahead dataValidUntilTimestamp lies. Default 30m, at most 720h.
	Validity time.Duration `yaml:"validity"`
}

// Log says what is logged, and how. Logs go to standard error.
type Log struct {
	// Level is debug, info, warn or error. Default info.
	Level string `yaml:"level"`
	// Format is json or text. Default json.
	Format string `yaml:"format"`
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) defaults() {
	setDefault(&c.API.Listen, "127.0.0.1:8080")
	setDefault(&c.API.RequestTimeout, 15*time.Second)
	setDefault(&c.Admin.Listen, "127.0.0.1:9090")
	setDefault(&c.HSM.Policy, "failover")
	setDefault(&c.HSM.CallTimeout, 10*time.Second)
	setDefault(&c.HSM.DrainTimeout, 5*time.Second)
	setDefault(&c.HSM.KeepAlive, time.Minute)
	if c.Store.SQLite != "" {
		setDefault(&c.DataDir, filepath.Dir(c.Store.SQLite))
	}
	for i := range c.Clients {
		setDefault(&c.Clients[i].MaxLifetime, 15*time.Minute)
		setDefault(&c.Clients[i].Leeway, 10*time.Second)
	}
	p := &c.PushProvisioning
	setDefault(&p.NonceLease, time.Minute)
	setDefault(&p.NonceLength, 4)
	setDefault(&p.NonceSignatureLength, 81)
	setDefault(&p.TAV.Version, "3")
	setDefault(&p.TAV.Validity, 30*time.Minute)
	setDefault(&c.Log.Level, "info")
	setDefault(&c.Log.Format, "json")
}

// Digest is the SHA-256, in hex, of the file the configuration was read from.
func (c *Config) Digest() string { return c.digest }

// Ignored lists variables of the environment that begin with MINTMARK_ and name no
// field, sorted.
func (c *Config) Ignored() []string { return c.ignored }
