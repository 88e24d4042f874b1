package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/softhsm"
)

// opened is what node found in an answer.
type opened struct {
	Payload   string
	TAV       map[string]string
	TAVSigned string
	TAVOK     bool
}

func openInNode(t *testing.T, s *server, a answer) opened {
	t.Helper()
	var in map[string]string
	if err := json.Unmarshal(a.body, &in); err != nil {
		t.Fatal(err)
	}
	for member, path := range map[string]string{"leafKey": s.info.Apple.LeafKey, "tavKey": filepath.Join(s.dir, "keys", "tav-signing.pem")} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		in[member] = string(b)
	}
	var out opened
	node(t, "apple.js", in, &out)
	return out
}

func TestNodeOpensWhatTheServerSealed(t *testing.T) {
	for _, version := range []string{"3", "4"} {
		t.Run("TAV version "+version, func(t *testing.T) {
			env := []string{"MINTMARK_PUSH_PROVISIONING_TAV_VERSION=" + version}
			if version == "4" {
				env = append(env, "MINTMARK_PUSH_PROVISIONING_TAV_KEY_ALIAS=mc-2026")
			}
			s := start(t, t.TempDir(), nil, env)
			req := s.newRequest()
			a := s.mustPost(req)
			if a.status != 200 {
				t.Fatalf("answered %d: %s", a.status, a.body)
			}
			got := openInNode(t, s, a)
			want := fmt.Sprintf(`{"expiration":"12\/49","name":"John Appleseed","nonce":%q,"nonceSignature":%q,"primaryAccountNumber":"5204245250001488","productType":"DEFAULT_MASTERCARD","version":"1"}`,
				req["nonce"], req["nonceSignature"])
			if got.Payload != want {
				t.Errorf("payload\n%s\nwant\n%s", got.Payload, want)
			}
			if !got.TAVOK {
				t.Errorf("the TAV's signature does not verify over %d bytes", len(got.TAVSigned))
			}
			until, err := time.Parse(time.RFC3339, got.TAV["dataValidUntilTimestamp"])
			if ahead := time.Until(until); err != nil || ahead < 25*time.Minute || ahead > 31*time.Minute {
				t.Errorf("dataValidUntilTimestamp is %v ahead (%v)", ahead, err)
			}
			signed := "5204245250001488|1249|" + got.TAV["dataValidUntilTimestamp"]
			if version == "4" {
				signed = got.TAV["dataValidUntilTimestamp"] + "|5204245250001488|1249"
			}
			if got.TAV["version"] != version || got.TAV["signatureAlgorithm"] != "RSA-SHA256" || got.TAVSigned != signed {
				t.Errorf("TAV is not of version %s", version)
			}
			if (got.TAV["keyAlias"] == "mc-2026") != (version == "4") {
				t.Errorf("keyAlias is %q", got.TAV["keyAlias"])
			}
		})
	}
}

func TestEveryFormOfTheRequestIsSealed(t *testing.T) {
	s := start(t, t.TempDir(), nil, nil)
	chain, err := os.ReadFile(s.info.Apple.LeafCert)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := os.ReadFile(s.info.Apple.SubCert)
	if err != nil {
		t.Fatal(err)
	}
	root := s.certificate(s.info.Apple.RootCert)
	for name, change := range map[string]request{
		"cardId":                  {"externalCardId": nil, "cardId": s.info.Cards[0].ExternalCardID},
		"certificate as array":    {"certificates": nil, "certificate": s.newRequest()["certificates"]},
		"certificate as PEM":      {"certificates": nil, "certificate": string(chain) + string(sub)},
		"third certificate":       {"certificates": append(s.newRequest()["certificates"].([]string), root)},
		"walletType left out":     {"walletType": nil},
		"nonce in Base64":         {"nonce": "xYRvtQ=="},
		"another card's name":     {"externalCardId": "demo-mastercard-2"},
		"Maestro":                 {"externalCardId": "demo-maestro-1"},
		"nonce in capital digits": {"nonce": "C5846FB6"},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.mustPost(s.newRequest().with(change))
			if a.status != 200 {
				t.Fatalf("answered %d: %s", a.status, a.body)
			}
			if got := openInNode(t, s, a); !got.TAVOK || !json.Valid([]byte(got.Payload)) {
				t.Errorf("payload or TAV is wrong")
			}
		})
	}
}

// Of 200 parallel requests with one nonce exactly one wins; the losers cause no token
// work; every ephemeral object is destroyed.
func TestOneNonceHasOneWinner(t *testing.T) {
	spy := faultmodule.New(t, module(t))
	s := start(t, t.TempDir(), []string{"--module", spy.Path}, unsigned)
	before := spy.Totals()                                // making the development keys leaves four objects, which stay
	if a := s.mustPost(s.newRequest()); a.status != 200 { // what is done once is done
		t.Fatalf("answered %d: %s", a.status, a.body)
	}
	one := countCalls(t, spy, func() {
		if a := s.mustPost(s.newRequest()); a.status != 200 {
			t.Fatalf("answered %d: %s", a.status, a.body)
		}
	})

	req := s.newRequest()
	var mu sync.Mutex
	statuses := map[int]int{}
	all := countCalls(t, spy, func() {
		var wg sync.WaitGroup
		for range 200 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				a, err := s.post(req)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				statuses[a.status]++
				if a.status == 409 && a.problem() != "nonce-used" {
					t.Errorf("409 is %q", a.problem())
				}
			}()
		}
		wg.Wait()
	})
	if statuses[200] != 1 || statuses[409] != 199 {
		t.Errorf("answers by status: %v", statuses)
	}
	if all.String() != one.String() {
		t.Errorf("200 requests caused these calls:\n%s\none causes:\n%s", all, one)
	}
	after := spy.Totals()
	made, destroyed := after.ObjectsCreated-before.ObjectsCreated, after.ObjectsDestroyed-before.ObjectsDestroyed
	if made != 9 || destroyed != made { // three cards: a pair and a shared secret each
		t.Errorf("%d session objects made, %d destroyed", made, destroyed)
	}
	metrics := string(s.get(s.info.AdminURL + "/metrics").body)
	counted, gone := metric(t, metrics, "mintmark_ephemeral_objects_created_total"), metric(t, metrics, "mintmark_ephemeral_objects_destroyed_total")
	if counted != gone || counted == "0" {
		t.Errorf("metrics say %s ephemeral objects made, %s destroyed", counted, gone)
	}
	if a := s.mustPost(req); a.status != 409 {
		t.Errorf("the used nonce answers %d", a.status)
	}
}

func metric(t *testing.T, text, name string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no metric %s", name)
	return ""
}

// A server killed between claim and result has released nothing; its nonce is free
// again when the lease has run out, and not before. The test moves the lease's end to now.
func TestKilledBetweenClaimAndResult(t *testing.T) {
	fault := faultmodule.New(t, module(t))
	dir := t.TempDir()
	args := []string{"--module", fault.Path}
	const lease = 10 * time.Minute
	env := append([]string{"MINTMARK_API_REQUEST_TIMEOUT=50s", "MINTMARK_HSM_CALL_TIMEOUT=50s", "MINTMARK_PUSH_PROVISIONING_NONCE_LEASE=10m"}, unsigned...)
	s := start(t, dir, args, env)
	req := s.newRequest()

	asked := time.Now()
	stuck := fault.Hang("C_GenerateKeyPair", 1)
	got := make(chan error, 1)
	go func() {
		a, err := s.post(req)
		if err == nil {
			err = fmt.Errorf("answered %d: %s", a.status, a.body)
		}
		got <- err
	}()
	stuck.Await(1)
	if n := s.count(`SELECT COUNT(*) FROM apple_nonces WHERE state = 'claimed' AND lease_until >= ?`, asked.Add(lease).UnixMilli()); n != 1 {
		t.Fatalf("%d nonces are claimed for %v", n, lease)
	}
	s.kill()
	if err := <-got; !strings.Contains(err.Error(), "EOF") && !strings.Contains(err.Error(), "connection reset") {
		t.Fatalf("the killed server's caller got: %v", err)
	}
	fault.Clear()

	s = start(t, dir, args, env)
	if n := s.count(`SELECT COUNT(*) FROM audit_entries WHERE kind = 'result' AND ticket IN (SELECT ticket FROM audit_entries WHERE kind = 'intent' AND body LIKE '%sign-card%')`); n != 0 {
		t.Errorf("%d results are on record", n)
	}
	if a := s.mustPost(req); a.status != 409 {
		t.Errorf("while the lease runs the nonce answers %d: %s", a.status, a.body)
	}
	s.alter(`UPDATE apple_nonces SET lease_until = ? WHERE state = 'claimed'`, time.Now().UnixMilli())
	a := s.mustPost(req)
	if a.status != 200 {
		t.Fatalf("after the lease the nonce answers %d: %s", a.status, a.body)
	}
	if got := openInNode(t, s, a); !got.TAVOK {
		t.Error("TAV is wrong")
	}
}

// alter changes the database behind the service's back.
func (s *server) alter(statement string, args ...any) {
	s.t.Helper()
	db := s.database("rw")
	_, err := db.Exec(statement, args...)
	if err := errors.Join(err, db.Close()); err != nil {
		s.t.Fatal(err)
	}
}

func module(t *testing.T) string {
	t.Helper()
	m, err := softhsm.Find()
	if err != nil {
		t.Fatal(err)
	}
	return m
}
