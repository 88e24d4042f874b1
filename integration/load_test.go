//go:build faults

package integration

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning/appletest"
)

func init() { raceDetector = false } // it makes the server three times slower

// clients is how many callers there are at once.
const clients = 16

// thinkTime is how long a client waits after a refusal. A real one waits for as long as
// Retry-After says; these are here to see the first success.
const thinkTime = 10 * time.Millisecond

// exchange is one request and what became of it.
type exchange struct {
	began time.Time
	took  time.Duration
	nonce string
	answer
	err error // no HTTP answer
}

// ended is when the answer was there.
func (e exchange) ended() time.Time { return e.began.Add(e.took) }

// refused reports whether the server never took the connection.
func (e exchange) refused() bool { return errors.Is(e.err, syscall.ECONNREFUSED) }

// load is clients that post one signed-cards request after the other.
type load struct {
	t     *testing.T
	where func() (url, token string)
	certs []string
	card  string

	stop     chan struct{}
	stopping sync.Once
	running  sync.WaitGroup

	mu  sync.Mutex
	all []exchange // guarded by mu
}

// newLoad starts the clients, which end before the test does.
func newLoad(s *server, where func() (url, token string)) *load {
	l := &load{
		t: s.t, where: where, stop: make(chan struct{}), card: s.info.Cards[0].ExternalCardID,
		certs: []string{s.certificate(s.info.Apple.LeafCert), s.certificate(s.info.Apple.SubCert)},
	}
	s.t.Cleanup(func() { l.end() })
	for range clients {
		l.running.Add(1)
		go func() {
			defer l.running.Done()
			l.client()
		}()
	}
	return l
}

func (l *load) client() {
	wait := time.NewTicker(thinkTime)
	defer wait.Stop()
	for {
		select {
		case <-l.stop:
			return
		default:
		}
		e := l.one()
		if e.status != http.StatusOK {
			e.answer = answer{status: e.status} // there may be a hundred thousand
		}
		l.mu.Lock()
		l.all = append(l.all, e)
		l.mu.Unlock()
		if e.status != http.StatusOK {
			<-wait.C
		}
	}
}

func (l *load) one() exchange {
	fresh := make([]byte, 84)
	_, _ = rand.Read(fresh)
	e := exchange{nonce: hex.EncodeToString(fresh[:4])}
	body, err := json.Marshal(request{
		"externalCardId": l.card, "certificates": l.certs, "walletType": "APPLE_PAY",
		"nonce": e.nonce, "nonceSignature": "40" + hex.EncodeToString(fresh[4:]),
	})
	if err != nil {
		l.t.Error(err)
		return e
	}
	url, token := l.where()
	req, err := http.NewRequest(http.MethodPost, url+"/issuer/push-provisioning/signed-cards", bytes.NewReader(body))
	if err != nil {
		l.t.Error(err)
		return e
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+token)
	e.began = time.Now()
	e.answer, e.err = do(req)
	e.took = time.Since(e.began)
	return e
}

// after gives the exchanges since the first so many.
func (l *load) after(looked int) []exchange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[looked:]
}

// served waits until n requests that began after since are answered with 200, and
// reports whether they were. It looks at each exchange once: while a fault lasts there are a
// hundred thousand of them.
func (l *load) served(n int, since time.Time, within time.Duration) bool {
	deadline := time.Now().Add(within)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for looked := 0; ; <-tick.C {
		fresh := l.after(looked)
		looked += len(fresh)
		for _, e := range fresh {
			if e.status == http.StatusOK && e.began.After(since) {
				n--
			}
		}
		if n <= 0 {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// end stops the clients and gives all that happened.
func (l *load) end() []exchange {
	l.stopping.Do(func() { close(l.stop) })
	l.running.Wait()
	return l.all
}

// judge opens every released output as its receivers would, and looks for it in the log.
type judge struct {
	leaf     *ecdsa.PrivateKey
	tav      *rsa.PublicKey
	recorded map[string]bool // SHA-256 in hex of all outputs on record
}

// newJudge reads the receivers' keys, and the log beside the server.
func newJudge(t *testing.T, s *server) judge {
	t.Helper()
	issued, err := appletest.ReadDir(filepath.Join(s.dir, "apple"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "keys", "tav-signing.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return judge{leaf: issued.LeafKey, tav: pub.(*rsa.PublicKey), recorded: recordedOutputs(t, s)}
}

func recordedOutputs(t *testing.T, s *server) map[string]bool {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(s.dir, "mintmark.db")+"?mode=ro&_busy_timeout=5000")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.Query(`SELECT body FROM audit_entries WHERE kind = 'result'`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	all := map[string]bool{}
	for rows.Next() {
		var body string
		if err := rows.Scan(&body); err != nil {
			t.Fatal(err)
		}
		var result struct {
			Outputs []struct{ SHA256 string }
		}
		if err := json.Unmarshal([]byte(body), &result); err != nil {
			t.Fatal(err)
		}
		for _, o := range result.Outputs {
			all[o.SHA256] = true
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// outputs are the members of a 200, after their one Base64.
type outputs struct{ ActivationData, EphemeralPublicKey, EncryptedData []byte }

// right reports how many outputs of a 200 are not on record, and what is wrong with it.
func (j judge) right(e exchange) (unrecorded int, wrong error) {
	var o outputs
	if err := json.Unmarshal(e.body, &o); err != nil {
		return 0, err
	}
	for _, b := range [][]byte{o.ActivationData, o.EphemeralPublicKey, o.EncryptedData} {
		if !j.recorded[fmt.Sprintf("%x", sha256.Sum256(b))] {
			unrecorded++
		}
	}
	plain, err := appletest.Open(j.leaf, o.EphemeralPublicKey, o.EncryptedData)
	if err != nil {
		return unrecorded, err
	}
	var card struct{ Nonce, PrimaryAccountNumber, Expiration string }
	if err := json.Unmarshal(plain, &card); err != nil {
		return unrecorded, err
	}
	if card.Nonce != e.nonce {
		return unrecorded, errors.New("the payload is another request's")
	}
	var tav struct{ DataValidUntilTimestamp, IncludedFieldsInOrder, Signature string }
	if err := json.Unmarshal(o.ActivationData, &tav); err != nil {
		return unrecorded, err
	}
	fields := map[string]string{
		"accountNumber": card.PrimaryAccountNumber, "accountExpiry": strings.ReplaceAll(card.Expiration, "/", ""),
		"dataValidUntilTimestamp": tav.DataValidUntilTimestamp,
	}
	var signed []string
	for _, name := range strings.Split(tav.IncludedFieldsInOrder, "|") {
		signed = append(signed, fields[name])
	}
	sig, err := base64.StdEncoding.DecodeString(tav.Signature)
	if err != nil {
		return unrecorded, err
	}
	digest := sha256.Sum256([]byte(strings.Join(signed, "|")))
	return unrecorded, rsa.VerifyPKCS1v15(j.tav, crypto.SHA256, digest[:], sig)
}
