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
// On SIGHUP the file is read again, and what is marked "reloaded" holds from then on; a
// change of anything else needs a restart, and is said to. A file with something wrong in it
// changes nothing.
package config

import "time"

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
	// Roles are what this process serves, and with it which keys it can use: issuer (push
	// provisioning, which opens card data), merchant (merchant JWTs, proximity tokens) and
	// passes (Wallet passes). Default: issuer. serve --roles overrides it.
	Roles []string `yaml:"roles"`
	// API is the listener of all roles that have none of their own.
	API API `yaml:"api"`
	// MerchantAPI is a listener for the merchant role alone. Production needs it, or another
	// process, if both roles are served: apps call the one, card data pass the other.
	MerchantAPI *API `yaml:"merchantAPI"`
	// PassesAPI is a listener for the passes role alone. Production needs it, or another
	// process, if the issuer role is served too: anybody's phone calls the one.
	PassesAPI *API `yaml:"passesAPI"`
	// Admin is the listener for health and metrics.
	Admin Admin `yaml:"admin"`
	// ShutdownDelay is how long the service still takes requests after it was told to stop,
	// while /readyz says 503 and every answer closes its connection: longer than the load
	// balancer's health checks need to notice (docs/cluster.md). At most 5m; the supervisor
	// must allow it on top of its own limit. Default 0.
	ShutdownDelay time.Duration `yaml:"shutdownDelay"`
	// HSM says which tokens hold the keys.
	HSM HSM `yaml:"hsm"`
	// Keyring is the path of the keyring file, the reviewed list of keys. Required. What
	// stands in the file is reloaded, as far as the life of a key allows it
	// (docs/ceremony.md); the path is not.
	Keyring string `yaml:"keyring"`
	// Store says where the database is.
	Store Store `yaml:"store"`
	// DataDir is a folder for what must survive a restart beside the database: PIN files
	// that a token refused. Default: the folder of store.sqlite; required with
	// store.postgres.
	DataDir string `yaml:"dataDir"`
	// Clients are those who may call. Nobody else may, but for the tokens that
	// merchant.issuers has signed. Reloaded.
	Clients []Client `yaml:"clients"`
	// PushProvisioning is the sealing of cards for Apple Wallet.
	PushProvisioning PushProvisioning `yaml:"pushProvisioning"`
	// Merchant is merchant JWTs and Apple proximity tokens. Reloaded.
	Merchant Merchant `yaml:"merchant"`
	// Passes is Wallet passes.
	Passes Passes `yaml:"passes"`
	// Outbound is what this service fetches from others. Reloaded.
	Outbound Outbound `yaml:"outbound"`
	// Log says what is logged, and how.
	Log Log `yaml:"log"`
	// Audit is the audit log's checkpoints, anchors and limits.
	Audit Audit `yaml:"audit"`
	// DualControl is who may change the running service.
	DualControl DualControl `yaml:"dualControl"`
	// Console is the pages for the people who run and audit the service.
	Console Console `yaml:"console"`
	// Tracing says where traces of requests go.
	Tracing Tracing `yaml:"tracing"`

	digest  string
	ignored []string
}

// API is a listener for callers.
type API struct {
	// Listen is host:port. Default 127.0.0.1:8080, of merchantAPI 127.0.0.1:8081, of
	// passesAPI 127.0.0.1:8082.
	Listen string `yaml:"listen"`
	// TLS is required unless Listen is a loopback address.
	TLS *TLS `yaml:"tls"`
	// RequestTimeout bounds one request, waiting for the token included. Default 15s.
	RequestTimeout time.Duration `yaml:"requestTimeout"`
	// Docs shows the API's description at /docs/, to anybody. The admin listener always does.
	// Default false.
	Docs bool `yaml:"docs"`
}

// TLS is a listener's certificate, and what it makes of its callers' certificates.
type TLS struct {
	// CertificateFile is the chain in PEM, leaf first. Read again on SIGHUP and when the
	// file changes.
	CertificateFile string `yaml:"certificateFile"`
	// KeyFile is its private key in PEM: the one private key that may stand outside the
	// token. Read again with the certificate.
	KeyFile string `yaml:"keyFile"`
	// KeyInToken takes the active api-tls key of the keyring, with the certificate that the
	// keyring names for it, in place of the two files.
	KeyInToken bool `yaml:"keyInToken"`
	// MinVersion is 1.3 or 1.2. Default 1.3.
	MinVersion string `yaml:"minVersion"`
	// ClientCertificates says for each role (issuer, merchant, passes) whether callers' certificates
	// are looked at: off, request or require. Default off.
	ClientCertificates map[string]string `yaml:"clientCertificates"`
}

// Admin is the listener for health and metrics: plain HTTP, loopback only.
type Admin struct {
	// Listen is host:port of a loopback address. Default 127.0.0.1:9090.
	Listen string `yaml:"listen"`
	// Hosts are further names and addresses, without ports, by which the listener is called,
	// as through a proxy that passes its own name on. A request for another name is answered
	// 421, but for /livez, /readyz, /healthz and /metrics. Loopback addresses, localhost, and
	// the host of listen are always taken. Default none.
	Hosts []string `yaml:"hosts"`
}

// HSM says which tokens hold the keys.
type HSM struct {
	// Policy says which member is asked first: failover (the first that is ready, in
	// order) or spread (the ready ones in turn). Default failover.
	Policy string `yaml:"policy"`
	// Isolation says where the members' modules are loaded: none (in this process: what
	// crashes or hangs for ever inside one ends it, for its supervisor to start anew) or
	// process (each member in a child process of its own, which is killed and started anew
	// instead; Linux). Commands other than serve and dev load them in their own process.
	// Default process in production, none elsewhere.
	Isolation string `yaml:"isolation"`
	// CallTimeout is how long a call may stay inside a module before the module is
	// quarantined. Default 10s.
	CallTimeout time.Duration `yaml:"callTimeout"`
	// DrainTimeout is how long a quarantined module's calls are awaited before the process
	// that it is loaded in is given up: with isolation none that is this one, which ends with
	// status 4. Default 5s.
	DrainTimeout time.Duration `yaml:"drainTimeout"`
	// KeepAlive is how often an idle member is asked for a real signature. Default 60s.
	KeepAlive time.Duration `yaml:"keepAlive"`
	// Environment is set before a module is loaded, for vendors' libraries that take
	// their configuration so (SOFTHSM2_CONF, ChrystokiConfigurationPath). It holds for
	// the whole process.
	Environment map[string]string `yaml:"environment"`
	// Members are the tokens, with the same keys on each. For one to survive another's
	// loss each needs a module of its own: tokens behind one library come back together,
	// unless isolation gives each a process.
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

// PushProvisioning is the sealing of cards for Apple Wallet.
type PushProvisioning struct {
	// TestRootFile is the root certificate (PEM or DER) trusted in place of Apple's, in
	// development and test. Production refuses it, and trusts Apple Root CA - G3.
	TestRootFile string `yaml:"testRootFile"`
	// NonceLease is how long a nonce, or a bearer token that is good for one use, stays
	// claimed by a request that never ends. It must be longer than api.requestTimeout.
	// Default 60s.
	NonceLease time.Duration `yaml:"nonceLease"`
	// NonceLength and NonceSignatureLength are in bytes. Default 4 and 81, as seen in
	// the field.
	NonceLength          int `yaml:"nonceLength"`
	NonceSignatureLength int `yaml:"nonceSignatureLength"`
	// TAV is Mastercard's activation data.
	TAV TAV `yaml:"tav"`
	// Visa is how Visa's messages are made. Required where a product needs the zone key.
	Visa Visa `yaml:"visa"`
	// Schemes are activation data of networks whose form is not public. Reloaded, for the
	// products that there are.
	Schemes []Scheme `yaml:"schemes"`
	// Connector is the way to the payment network. Without one no passcode is sent, and no
	// token activated from here.
	Connector Connector `yaml:"connector"`
	// Statements are the keys by which the issuers' own systems state what they know.
	Statements []StatementKey `yaml:"statements"`
	// Decisions is by what the network's approval check is answered.
	Decisions Decisions `yaml:"decisions"`
	// Passcodes bounds one-time passcodes.
	Passcodes Passcodes `yaml:"passcodes"`
	// Products are the kinds of cards, which card data name. Default: one, mastercard, for
	// Mastercard's configuration 1 with a TAV.
	Products []Product `yaml:"products"`
}

// Product says which payload the cards of one kind get, and which activation data.
type Product struct {
	// Name is what card data call it. Required, unique.
	Name string `yaml:"name"`
	// Network is mastercard, maestro, visa, visa-electron, v-pay, amex or discover. Required.
	Network string `yaml:"network"`
	// CoBadged says that its cards are of a second network too, whose data stand in
	// auxiliaryCards. For mastercard (configuration 1) and visa (3). Default false.
	CoBadged bool `yaml:"coBadged"`
	// Configuration is that of the payment data: mastercard and maestro 1 or 3; visa,
	// visa-electron and v-pay 3; amex and discover 1 or 2. Required.
	Configuration int `yaml:"configuration"`
	// ProductType is the payload's productType. Required for visa-electron and v-pay
	// (01:NN|NY|YY:A0000000032010) and, as given by Apple, for co-badged products. Default:
	// the one that the network has.
	ProductType string `yaml:"productType"`
	// Activation is tav, visa, or the name of one of schemes. Required.
	Activation string `yaml:"activation"`
	// EncryptedPAN says where configuration 3 has the encrypted PAN from: zone (made here with
	// the visa-zone key) or supplied (by the network, as encryptedPrimaryAccountNumber of the
	// card data). Default zone for Visa's networks, supplied for Mastercard's.
	EncryptedPAN string `yaml:"encryptedPAN"`
	// PrefixLength is how many digits primaryAccountNumberPrefix has: 6 or 8. Default 6.
	PrefixLength int `yaml:"prefixLength"`
	// Extra are further members of the payload that the network supplied; configuration 2 only.
	Extra map[string]string `yaml:"extra"`
	// Title is what wallet extensions show of its cards, up to 80 bytes. Default: the network's
	// name, such as Mastercard.
	Title string `yaml:"title"`
	// Test says that its cards are test cards: in environment test, a build with the tag trace
	// shows every step of their sealing. Refused in production. Default false.
	Test bool `yaml:"test"`
}

// Visa is how Visa's messages are made.
type Visa struct {
	// KeySet is the network's name of the visa-zone key: six digits, a dot, an index.
	KeySet string `yaml:"keySet"`
	// Layout of encrypted PANs is bare (the clear text alone, which fits cards of 16 digits) or
	// framed. Ask the network. No default.
	Layout string `yaml:"layout"`
}

// Scheme is how activation data are made for a network that has told its own form.
type Scheme struct {
	// Name is what products call it. Required, unique; not tav or visa.
	Name string `yaml:"name"`
	// Algorithm is RS256 or ES256 (a JWS), ECDH-ES or RSA-OAEP-256 (a JWE with A256GCM), or
	// TDEA (upper-case hex of CBC with an IV of zeroes, framed as Visa's). Required.
	Algorithm string `yaml:"algorithm"`
	// Key is the keyring's name of a network-otp key; for RS256, ES256 and TDEA.
	Key string `yaml:"key"`
	// PublicKeyFile is the network's public key in PEM, or a certificate; for JWE.
	PublicKeyFile string `yaml:"publicKeyFile"`
	// KeyID is the network's name of that key, its kid. Default none.
	KeyID string `yaml:"keyId"`
	// Delimiter stands between fields: | ; , or : and no other. Required.
	Delimiter string `yaml:"delimiter"`
	// Names puts each field's name and = before its value. Default false.
	Names bool `yaml:"names"`
	// Fields are the values, in order. At least one. A JWS takes no pan and no expiry: it can
	// be read by whoever carries it.
	Fields []SchemeField `yaml:"fields"`
}

// SchemeField is one value of a scheme.
type SchemeField struct {
	// Name is the field's name. Required.
	Name string `yaml:"name"`
	// Type is pan, expiry (MMYY), nonce (hex), tokenUniqueReference, timestamp
	// (yyyyMMddHHmmss, UTC), authcode (six random of A-Z0-9) or text. Required.
	Type string `yaml:"type"`
	// Value is the text of a text.
	Value string `yaml:"value"`
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
	// Level is debug, info, warn or error. Default info. Reloaded.
	Level string `yaml:"level"`
	// Format is json or text. Default json.
	Format string `yaml:"format"`
}

// Digest is the SHA-256, in hex, of the file the configuration was read from.
func (c *Config) Digest() string { return c.digest }

// Ignored lists variables of the environment that begin with MINTMARK_ and name no
// field, sorted.
func (c *Config) Ignored() []string { return c.ignored }
