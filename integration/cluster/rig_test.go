package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/integration/actors"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/internal/store/pgtest"
	"github.com/mintmark/mintmark/passkit/passtest"
	"github.com/mintmark/mintmark/softhsm"
)

const (
	tenant   = "bank"
	audience = "mint.example"
	passType = "pass.example.cluster"
	card     = "card-1"
	quota    = 20 // merchant tokens a day of the client limited
)

// The times of a rig, short so that a measurement sees them run out.
const (
	shutdownDelay  = 2 * time.Second
	requestTimeout = 5 * time.Second
	tokenCall      = 10 * time.Second
	nonceLease     = 6 * time.Second
	pushLease      = 5 * time.Second
	outboundWithin = 5 * time.Second
)

// soon is how long is waited for what must come, on a machine that may be busy.
const soon = time.Minute

// times are what a rig's replicas have others than those above, and how long a token may take
// for a call.
type times struct{ shutdownDelay, request, call, nonceLease, pushLease, outbound time.Duration }

// patient are the times of tests that let nothing run out: they move a lease's end themselves,
// and nobody gives up while the test, or the disk, stands still for some seconds.
var patient = times{
	shutdownDelay: 4 * time.Second, request: 50 * time.Second, call: 50 * time.Second,
	nonceLease: 10 * time.Minute, pushLease: 10 * time.Minute, outbound: 5 * time.Minute,
}

// rig is two replicas with all that stands around them.
type rig struct {
	t        *testing.T // of the step under way
	whole    *testing.T // whose end stops the processes
	dir      string
	postgres *pgtest.Server
	dsn      string
	database *sql.DB // the tests' own way in
	apple    *appletest.Issued
	pushes   *actors.PushService
	network  *actors.Network
	backend  *actors.Party // of the issuer
	limited  *actors.Party // who may have quota merchant tokens signed a day
	ada      *actors.Party // who proposes changes
	grace    *actors.Party // who approves them
	a, b     *replica
	jwks     jose.JSONWebKeySet
	balancer string // URL

	mu    sync.Mutex // guards the two
	token string     // of the backend
	until time.Time  // when another is to be made
}

// replica is one `mintmark serve` with a token of its own.
type replica struct {
	rig        *rig
	name       string
	token      *softhsm.Token
	fault      *faultmodule.Module
	api, admin string // URLs
	*actors.Process
}

// options are what tests want different about a rig.
type options struct {
	postgres []string // further settings, name=value
	serve    []string // of the replicas' environment
	times    times
}

// newRig makes everything and starts the replicas.
func newRig(t *testing.T, o options) *rig {
	t.Helper()
	r := &rig{t: t, whole: t, dir: t.TempDir(), pushes: actors.NewPushService(t)}
	r.startPostgres(o.postgres)
	keys := hsmtest.New(t)
	image, ring := hsmtest.Image(t)
	r.certifyPasses(keys, ring)
	connector, err := keys.Public(string(hsm.ConnectorJWS))
	r.check(err)
	r.network = actors.NewNetwork(t, connector, false)
	authority, err := appletest.New(time.Now())
	r.check(err)
	r.apple, err = authority.Leaf()
	r.check(err)
	r.backend, r.limited = r.party("backend"), r.party("limited")
	r.ada, r.grace = r.party("ada"), r.party("grace")
	r.a, r.b = r.newReplica("a", image), r.newReplica("b", image)
	if o.times == (times{}) {
		o.times = times{shutdownDelay, requestTimeout, tokenCall, nonceLease, pushLease, outboundWithin}
	}
	r.configure(o.times)
	for _, p := range r.replicas() {
		p.start(o.serve...)
	}
	for _, p := range r.replicas() {
		p.awaitReady()
	}
	r.balance()
	r.storeCard()
	return r
}

// bearer is a token of the backend's. Tests go on for longer than one lives.
func (r *rig) bearer() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Now().After(r.until) {
		r.token, r.until = r.backend.Token(nil), time.Now().Add(5*time.Minute)
	}
	return r.token
}

func (r *rig) replicas() []*replica { return []*replica{r.a, r.b} }

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// write makes a file of the rig's folder, and gives its path.
func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	r.check(os.WriteFile(path, []byte(text), 0o600))
	return path
}

// startPostgres starts a server that the tests may stop, with an empty database.
func (r *rig) startPostgres(settings []string) {
	r.t.Helper()
	var err error
	r.postgres, err = pgtest.Start(settings...)
	if err != nil {
		r.t.Fatalf("PostgreSQL (tools/ensure.sh postgresql installs it): %v", err)
	}
	r.t.Cleanup(r.postgres.Stop)
	r.dsn, err = r.postgres.NewDatabase()
	r.check(err)
	r.write("dsn", r.dsn)
	r.database, err = sql.Open("pgx", r.dsn)
	r.check(err)
	r.database.SetMaxIdleConns(0) // the server is stopped and killed under it
	r.t.Cleanup(func() { _ = r.database.Close() })
}

// certifyPasses gives the pass key its certificate, which the push service knows too, and
// writes the keyring.
func (r *rig) certifyPasses(keys *hsmtest.Token, ring *hsm.Keyring) {
	r.t.Helper()
	authority, err := passtest.New(time.Now())
	r.check(err)
	public, err := keys.Public(string(hsm.Pass))
	r.check(err)
	leaf, err := authority.Leaf(public, passtest.For(passType, "TEAM123456"))
	r.check(err)
	var chain bytes.Buffer
	for _, der := range [][]byte{leaf.Raw, authority.Intermediate.Raw} {
		r.check(pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	r.write("pass.crt", chain.String())
	r.pushes.Trust(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Root.Raw}))
	for i := range ring.Keys {
		if ring.Keys[i].Purpose == hsm.Pass {
			ring.Keys[i].Certificate = "pass.crt"
		}
	}
	r.check(ring.Save(filepath.Join(r.dir, "keyring.yaml")))
}

// party is a client, whose key is in the folder.
func (r *rig) party(name string) *actors.Party {
	r.t.Helper()
	p := actors.NewParty(r.t, name, audience)
	r.write(name+".pem", actors.PublicPEM(r.t, p.Key.Public()))
	return p
}

// newReplica makes a replica's token, a copy of the image, and the fault module before it.
func (r *rig) newReplica(name string, image softhsm.Image) *replica {
	r.t.Helper()
	token := softhsm.NewFrom(r.t, image)
	return &replica{
		rig: r, name: name, token: token,
		fault: faultmodule.NewWith(r.t, faultmodule.Config{Inner: token.Module, SoftHSMConf: token.ConfigFile}),
		api:   "http://" + actors.FreeAddress(r.t), admin: "http://" + actors.FreeAddress(r.t),
	}
}

// configure writes the one configuration of both replicas. What differs is in their
// environment.
func (r *rig) configure(at times) {
	r.t.Helper()
	r.write("apple-root.pem", string(r.apple.RootPEM()))
	r.write("network.pem", r.network.PublicPEM())
	r.write("outbound-ca.pem", string(r.network.CA))
	module, err := faultmodule.BuildTo(r.dir)
	r.check(err)
	r.write("mintmark.yaml", fmt.Sprintf(`environment: test
shutdownDelay: %v
roles: [issuer, merchant, passes]
api: {requestTimeout: %v}
hsm:
  callTimeout: %v
  members:
    - {name: %s, module: %q, tokenLabel: %q, pinFile: %q}
keyring: keyring.yaml
store: {postgres: {dsnFile: dsn}}
pushProvisioning:
  testRootFile: apple-root.pem
  nonceLease: %v
  connector: %s
outbound: {caFile: outbound-ca.pem, allowPrivate: [127.0.0.0/8], timeout: %v}
merchant:
  audience: %s
  audFingerprints: [sha256/zc6c97JhKPZUa+rIrVqjknDE1lDcDK77G41sDo+1ay0=]
  issuers: [{tenant: %s, issuer: mint}]
passes:
  publicURL: https://passes.example
  types: [{tenant: %s, passTypeIdentifier: %s, key: pass}]
  push:
    lease: %v
%sdualControl: {required: true}
clients:
  - issuer: backend
    tenant: %s
    audience: %s
    keys: [{kid: backend-1, publicKeyFile: backend.pem}]
    rights: [signCards, manageCards, readCards, managePasses, sendPasscodes, verifyPasscodes, readEnablement, signMerchantTokens]
    merchantTokens: {subjects: ["*"], audiences: ["*"], dailyQuota: -1}
    rateLimit: {perSecond: -1}
  - issuer: limited
    tenant: %s
    audience: %s
    keys: [{kid: limited-1, publicKeyFile: limited.pem}]
    rights: [signMerchantTokens]
    merchantTokens: {subjects: ["*"], audiences: ["*"], dailyQuota: %d}
    rateLimit: {perSecond: -1}
  - {issuer: ada, tenant: ops, audience: %s, keys: [{kid: ada-1, publicKeyFile: ada.pem}], rights: [proposeChanges]}
  - {issuer: grace, tenant: ops, audience: %s, keys: [{kid: grace-1, publicKeyFile: grace.pem}], rights: [approveChanges]}
`, at.shutdownDelay, at.request, at.call, hsmtest.Member, module, r.a.token.Label, r.a.token.PINFile, at.nonceLease, r.network.Config("network.pem"),
		at.outbound, audience, tenant, tenant, passType, at.pushLease, r.pushes.Config(), tenant, audience, tenant, audience, quota, audience, audience))
}

// start starts the replica's process.
func (p *replica) start(env ...string) {
	p.rig.t.Helper()
	p.Process = actors.Start(p.rig.whole, p.command(env...))
}

// command is `mintmark serve` as the replica, with env added to the environment.
func (p *replica) command(env ...string) *exec.Cmd {
	p.rig.t.Helper()
	data := filepath.Join(p.rig.dir, "data-"+p.name)
	p.rig.check(os.MkdirAll(data, 0o700))
	cmd := exec.Command(mintmark, "serve", "--config", filepath.Join(p.rig.dir, "mintmark.yaml"))
	cmd.Env = append(os.Environ(), "MINTMARK_LOG_FORMAT=text", "GORACE=atexit_sleep_ms=0", "MINTMARK_DATA_DIR="+data,
		"MINTMARK_API_LISTEN="+host(p.api), "MINTMARK_ADMIN_LISTEN="+host(p.admin),
		"MINTMARK_AUDIT_REPLICA="+p.name)
	cmd.Env = append(append(cmd.Env, p.fault.Env()...), env...)
	return cmd
}

// awaitReady waits until the replica is ready, and its log is its own.
func (p *replica) awaitReady() {
	p.rig.t.Helper()
	p.Await(p.rig.t, soon, p.ready)
}

func (p *replica) ready() bool {
	a, err := actors.Call{Method: http.MethodGet, URL: p.admin + "/readyz"}.By(client)
	return err == nil && a.Status == http.StatusOK
}

// again starts a replica that has ended.
func (p *replica) again() {
	p.rig.t.Helper()
	p.start()
	p.awaitReady()
}

// client waits for longer than a replica for anything.
var client = &http.Client{Timeout: soon, Transport: &http.Transport{MaxIdleConnsPerHost: 128, MaxConnsPerHost: 128}}

// call makes a call at a base URL with a token, and fails the test if there is no answer.
func (r *rig) call(method, url, token string, body any) actors.Answer {
	r.t.Helper()
	a, err := actors.Call{Method: method, URL: url, Token: token, Body: body}.By(client)
	r.check(err)
	return a
}

// into decodes an answer that must have a status.
func (r *rig) into(a actors.Answer, status int, out any) {
	r.t.Helper()
	if a.Status != status {
		r.t.Fatalf("answered %d instead of %d: %s", a.Status, status, a.Body)
	}
	if out != nil {
		r.check(json.Unmarshal(a.Body, out))
	}
}

// storeCard has a card brought in, encrypted.
func (r *rig) storeCard() {
	r.t.Helper()
	r.into(r.call(http.MethodGet, r.a.api+"/.well-known/jwks.json", "", nil), 200, &r.jwks)
	a, err := r.storing(r.a.api, r.encrypted()).By(client)
	r.check(err)
	r.into(a, 200, nil)
}

// encrypted is the card, encrypted for one use.
func (r *rig) encrypted() string {
	r.t.Helper()
	return actors.EncryptedCard(r.t, r.jwks, map[string]any{
		"tenant": tenant, "iss": r.backend.Issuer, "sub": r.backend.Subject, "externalCardId": card,
		"exp": time.Now().Add(time.Hour).Unix(), "jti": rand.Text(),
	}, `{"primaryAccountNumber":"5204245250001488","expiration":"12/49","name":"Holder","product":"mastercard"}`)
}

// storing is the call that brings an encrypted card in.
func (r *rig) storing(at, message string) actors.Call {
	return actors.Call{Method: http.MethodPut, URL: at + "/v1/cards/" + card, Token: r.bearer(), Body: map[string]string{"encryptedCard": message}}
}

// sealing is a request to seal the card, with a fresh nonce.
func (r *rig) sealing() map[string]any {
	fresh := make([]byte, 84)
	_, _ = rand.Read(fresh)
	var certificates []string
	for _, der := range r.apple.Chain() {
		certificates = append(certificates, base64.StdEncoding.EncodeToString(der))
	}
	return map[string]any{
		"externalCardId": card, "certificates": certificates, "walletType": "APPLE_PAY",
		"nonce": hex.EncodeToString(fresh[:4]), "nonceSignature": "40" + hex.EncodeToString(fresh[4:]),
	}
}

// seal is the call with a request to seal.
func (r *rig) seal(at string, request map[string]any) actors.Call {
	return actors.Call{Method: http.MethodPost, URL: at + "/issuer/push-provisioning/signed-cards", Token: r.bearer(), Body: request}
}

// count asks the database for one number.
func (r *rig) count(query string, args ...any) int {
	r.t.Helper()
	n, err := r.counted(query, args...)
	r.check(err)
	return n
}

// counted is count for those who ask again.
func (r *rig) counted(query string, args ...any) (n int, err error) {
	err = r.database.QueryRowContext(context.Background(), query, args...).Scan(&n)
	return n, err
}

// verifyLogs has `mintmark audit verify` look at all logs of the database, and gives what it
// says.
func (r *rig) verifyLogs() string {
	r.t.Helper()
	cmd := exec.Command(mintmark, "audit", "verify", "--config", filepath.Join(r.dir, "mintmark.yaml"))
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "MINTMARK_DATA_DIR="+r.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Errorf("audit verify: %v\n%s", err, out)
	}
	return string(out)
}
