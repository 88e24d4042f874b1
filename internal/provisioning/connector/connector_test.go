package connector_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/internal/leaktest"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/connector"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/signer"
)

// No test leaves a call behind.
func TestMain(m *testing.M) { leaktest.Main(m) }

// One token serves all: what is tested are the connector and its outbox.
func TestConnector(t *testing.T) {
	token := hsmtest.New(t, hsmtest.Without(hsm.TAVSigning), hsmtest.Without(hsm.MerchantJWT), hsmtest.Without(hsm.NetworkOTP))
	for name, test := range map[string]func(*world){
		"an endpoint that is down for a minute loses and doubles nothing":   downForAMinute,
		"a crash in the middle loses and doubles nothing":                   crashInTheMiddle,
		"a process that begins delivers at once what another had leased":    beginsWithWhatWasLeased,
		"a crash before anything is noted loses and doubles nothing":        crashBeforeNoting,
		"only an answer that the network signed ends a notice":              onlySignedAnswersEnd,
		"a notice that is of no use any more is not delivered":              tooLateIsDropped,
		"a refused notice is not told again":                                refusedIsOver,
		"an activation is asked for under one key until there is an answer": activationIsTriedAgain,
		"an activation without a proved answer is none":                     activationUnproved,
		"a request says what the contract has, and is on record":            requestIsOnRecord,
		"a stop keeps what is not delivered":                                stopKeeps,
	} {
		t.Run(name, func(t *testing.T) { test(newWorld(t, token)) })
	}
}

func downForAMinute(w *world) {
	ids := w.put(40, time.Time{}) // more than a batch
	c := w.connector()
	w.network.set(down)
	for range 12 {
		w.round(c)
		w.clock.Add(5 * time.Second)
	}
	w.requireOnce(nil)
	// Back, but for answers: it acts, and every other answer is lost.
	w.network.set(func(call int, post func() connector.Answer) (connector.Answer, error) {
		a := post()
		if call%2 == 0 {
			return connector.Answer{}, errDown
		}
		return a, nil
	})
	for range 12 {
		w.clock.Add(40 * time.Second) // longer than the longest wait
		w.round(c)
	}
	w.network.set(nil)
	w.clock.Add(40 * time.Second)
	w.round(c)
	w.requireOnce(ids)
	w.requireEmpty()
}

// The network has acted, and the process ends before it can note that.
func crashInTheMiddle(w *world) {
	ids := w.put(3, time.Time{})
	c := w.connector()
	w.network.set(func(call int, post func() connector.Answer) (connector.Answer, error) {
		a := post()
		if call == 3 {
			if err := w.store.Close(); err != nil {
				w.Error(err)
			}
		}
		return a, nil
	})
	if _, err := c.Round(context.Background()); err == nil {
		w.Error("a round without a database had no error")
	}
	w.store = nil
	w.restart()
	w.network.set(nil)
	again := w.connector()
	w.round(again) // the leases of the crashed process run
	w.clock.Add(time.Minute)
	w.round(again)
	w.requireOnce(ids)
	w.requireEmpty()
}

// The process ends after it leased, before anything left.
func crashBeforeNoting(w *world) {
	ids := w.put(3, time.Time{})
	if _, err := w.store.LeaseNotices(context.Background(), w.clock.Now(), w.clock.Now().Add(time.Minute), 9); err != nil {
		w.Fatal(err)
	}
	w.restart()
	c := w.connector()
	w.round(c)
	w.requireOnce(nil)
	w.clock.Add(time.Minute)
	w.round(c)
	w.requireOnce(ids)
	w.requireEmpty()
}

func beginsWithWhatWasLeased(w *world) {
	ids := w.put(3, time.Time{})
	if _, err := w.store.LeaseNotices(context.Background(), w.clock.Now(), w.clock.Now().Add(time.Minute), 9); err != nil {
		w.Fatal(err)
	}
	w.restart()
	ctx, stop := context.WithCancel(context.Background())
	w.network.set(func(_ int, post func() connector.Answer) (connector.Answer, error) {
		a := post()
		if len(w.ids()) == len(ids) {
			stop()
		}
		return a, nil
	})
	w.connector().Deliver(ctx)
	w.requireOnce(ids)
	w.requireEmpty()
}

// signedBy gives an answer signed with a key, with members changed.
func signedBy(w *world, key *ecdsa.PrivateKey, kid string, changes map[string]any) connector.Answer {
	claims := jwt.MapClaims{"inResponseTo": "notice-0", "tenant": "bank", "kind": string(provisioning.ActivationNotice), "outcome": connector.Accepted}
	maps.Copy(claims, changes)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	unsigned.Header["typ"], unsigned.Header["kid"] = connector.AnswerType, kid
	if typ, ok := changes["typ"]; ok {
		unsigned.Header["typ"] = typ
		delete(claims, "typ")
	}
	s, err := unsigned.SignedString(key)
	if err != nil {
		w.Fatal(err)
	}
	return connector.Answer{Status: http.StatusOK, Body: []byte(s)}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func onlySignedAnswersEnd(w *world) {
	w.put(1, time.Time{})
	theirs, other := newKey(w), newKey(w)
	c := w.connector(func(cfg *connector.Config) { cfg.Keys = map[string]crypto.PublicKey{"theirs": theirs.Public()} })
	good := signedBy(w, theirs, "theirs", nil)
	none := strings.Replace(string(good.Body), string(good.Body)[:strings.IndexByte(string(good.Body), '.')], "eyJhbGciOiJub25lIiwia2lkIjoidGhlaXJzIiwidHlwIjoibWludG1hcmstY29ubmVjdG9yLWFuc3dlcitqd3QifQ", 1)
	for name, a := range map[string]connector.Answer{
		"nothing":                {Status: http.StatusOK},
		"a page of a proxy":      {Status: http.StatusOK, Body: []byte("<html>all is well</html>")},
		"no content":             {Status: http.StatusNoContent},
		"not found":              {Status: http.StatusNotFound, Body: good.Body},
		"refused, unsigned":      {Status: http.StatusOK, Body: []byte(`{"outcome":"REFUSED"}`)},
		"alg none":               {Status: http.StatusOK, Body: []byte(none)},
		"another key":            signedBy(w, other, "theirs", nil),
		"an unknown key":         signedBy(w, theirs, "others", nil),
		"another type":           signedBy(w, theirs, "theirs", map[string]any{"typ": "JWT"}),
		"to another request":     signedBy(w, theirs, "theirs", map[string]any{"inResponseTo": "notice-1"}),
		"to another tenant":      signedBy(w, theirs, "theirs", map[string]any{"tenant": "shop"}),
		"to another kind":        signedBy(w, theirs, "theirs", map[string]any{"kind": connector.KindActivation}),
		"an outcome of others":   signedBy(w, theirs, "theirs", map[string]any{"outcome": "APPROVED"}),
		"an outcome that is not": signedBy(w, theirs, "theirs", map[string]any{"outcome": ""}),
	} {
		w.network.set(func(int, func() connector.Answer) (connector.Answer, error) { return a, nil })
		before := len(w.network.calls)
		w.clock.Add(time.Minute)
		w.round(c)
		if len(w.network.calls) != before+1 {
			w.Errorf("%s: the notice was not there any more", name)
		}
	}
	w.network.set(func(int, func() connector.Answer) (connector.Answer, error) { return good, nil })
	w.clock.Add(time.Minute)
	w.round(c)
	w.requireEmpty()
}

func tooLateIsDropped(w *world) {
	w.put(1, start.Add(5*time.Minute))
	c := w.connector()
	w.network.set(down)
	w.round(c)
	w.network.set(nil)
	w.clock.Add(5 * time.Minute)
	w.round(c)
	w.requireOnce(nil)
	w.requireEmpty()
}

func refusedIsOver(w *world) {
	w.put(1, time.Time{})
	theirs := newKey(w)
	c := w.connector(func(cfg *connector.Config) { cfg.Keys = map[string]crypto.PublicKey{"theirs": theirs.Public()} })
	w.network.set(func(int, func() connector.Answer) (connector.Answer, error) {
		return signedBy(w, theirs, "theirs", map[string]any{"outcome": connector.Refused}), nil
	})
	w.round(c)
	w.requireEmpty()
}

var asker = provisioning.Caller{Owner: provisioning.Owner{Tenant: "bank", Issuer: "app", Subject: "user-1"}, RequestID: "request-1"}

func activationIsTriedAgain(w *world) {
	c := w.connector()
	for reference, want := range map[string]provisioning.ActivationOutcome{
		"8YUZ": provisioning.ActivationApproved, "DECLINED-1": provisioning.ActivationDeclined, "FAILED-1": provisioning.ActivationFailed,
	} {
		w.network.calls = nil
		w.network.set(func(call int, post func() connector.Answer) (connector.Answer, error) {
			switch call {
			case 1:
				return connector.Answer{}, errDown
			case 2:
				post() // it acts, and its answer is lost
				return connector.Answer{Status: http.StatusBadGateway}, nil
			default:
				return post(), nil
			}
		})
		got, err := c.Activate(context.Background(), asker, provisioning.TokenActivation{IdempotencyKey: "key-" + reference, TokenUniqueReference: reference})
		if err != nil || got.Outcome != want || got.Comment != "simulated" {
			w.Errorf("%s: %+v, %v", reference, got, err)
		}
		if len(w.network.calls) != 3 || w.network.calls[0] != w.network.calls[2] {
			w.Errorf("%s: %d calls, or other requests", reference, len(w.network.calls))
		}
	}
}

func activationUnproved(w *world) {
	c := w.connector(func(cfg *connector.Config) { cfg.Keys = map[string]crypto.PublicKey{"simulator": newKey(w).Public()} })
	ctx, cancel := context.WithCancel(context.Background())
	w.network.set(func(call int, post func() connector.Answer) (connector.Answer, error) {
		if call == 3 {
			cancel()
		}
		return post(), nil
	})
	got, err := c.Activate(ctx, asker, provisioning.TokenActivation{IdempotencyKey: "key", TokenUniqueReference: "8YUZ"})
	if !errors.Is(err, connector.ErrNoAnswer) || got != (provisioning.ActivationAnswer{}) {
		w.Errorf("got %+v, %v", got, err)
	}
	var later interface{ RetryAfter() time.Duration }
	if errors.As(err, &later) {
		w.Error("the network's trouble counts as ours")
	}
}

func requestIsOnRecord(w *world) {
	recorded := -1
	w.network.set(func(_ int, post func() connector.Answer) (connector.Answer, error) {
		recorded = len(w.digests())
		return post(), nil
	})
	if _, err := w.connector().Activate(context.Background(), asker, provisioning.TokenActivation{IdempotencyKey: "key-1", TokenUniqueReference: "8YUZ"}); err != nil {
		w.Fatal(err)
	}
	sum := sha256.Sum256([]byte(w.network.calls[0]))
	if diff := cmp.Diff([]string{hex.EncodeToString(sum[:])}, w.digests()); diff != "" || recorded != 1 {
		w.Errorf("recorded before it left: %d; digests (-want +got):\n%s", recorded, diff)
	}
	payload, err := signer.VerifyJWS(w.network.calls[0], signer.ConnectorType, w.publicKeys())
	if err != nil {
		w.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(payload, &got); err != nil {
		w.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{
		"iss": "bank.example", "aud": "network.example", "iat": float64(start.Unix()), "exp": float64(start.Unix() + 120),
		"jti": "key-1", "tenant": "bank", "kind": "activate-token", "body": map[string]any{"tokenUniqueReference": "8YUZ"},
	}, got); diff != "" {
		w.Errorf("the request (-want +got):\n%s", diff)
	}
}

// digests are those of the outputs on record.
func (w *world) digests() (all []string) {
	entries, err := w.store.Read(context.Background(), 0, 1<<20)
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range entries {
		var body struct{ Result record.Result }
		if err := json.Unmarshal(e.Body, &body); err != nil {
			w.Fatal(err)
		}
		for _, o := range body.Result.Outputs {
			all = append(all, o.SHA256)
		}
	}
	return all
}

func stopKeeps(w *world) {
	ids := w.put(2, time.Time{})
	c := w.connector()
	ctx, cancel := context.WithCancel(context.Background())
	w.network.set(func(int, func() connector.Answer) (connector.Answer, error) {
		cancel()
		return connector.Answer{}, errDown
	})
	c.Deliver(ctx)
	// The next process finds them due at once: what was cut short is no attempt.
	again, stop := context.WithCancel(context.Background())
	w.network.set(func(_ int, post func() connector.Answer) (connector.Answer, error) {
		a := post()
		if len(w.ids()) == len(ids) {
			stop()
		}
		return a, nil
	})
	c.Deliver(again)
	w.requireOnce(ids)
	w.requireEmpty()
}
