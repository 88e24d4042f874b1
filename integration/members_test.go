package integration

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/internal/provisioning/appletest"
	"github.com/mintmark/mintmark/softhsm"
)

// pair is an HSM of two members, a and b: two libraries, two tokens, two configurations,
// and the same imported keys.
type pair struct {
	t       *testing.T
	hsm     *hsm.HSM
	modules [2]*faultmodule.Module
	tokens  [2]*softhsm.Token
	configs []hsm.Config
	keys    map[hsm.Purpose]material
	log     *lockedBuffer
	peer    *ecdh.PrivateKey
}

// newPair makes the tokens and imports the keys into both.
func newPair(t *testing.T) *pair {
	t.Helper()
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &pair{t: t, log: &lockedBuffer{}, keys: map[hsm.Purpose]material{}, peer: peer}
	ring := &hsm.Keyring{Environment: "test"}
	for _, purpose := range hsm.Purposes() {
		p.keys[purpose] = newMaterial(string(purpose), purpose)
		ring.Keys = append(ring.Keys, p.keys[purpose].pinned("a", "b"))
	}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	data := t.TempDir()
	for i, name := range []string{"a", "b"} {
		p.tokens[i] = softhsm.New(t)
		operate(t, p.tokens[i], func(o *operator) {
			for _, m := range p.keys {
				o.importKey(m)
			}
		})
		p.modules[i] = faultmodule.NewWith(t, faultmodule.Config{Inner: p.tokens[i].Module, OwnCopy: true, SoftHSMConf: p.tokens[i].ConfigFile})
		p.configs = append(p.configs, hsm.Config{
			Name: name, Module: p.modules[i].Path, TokenLabel: p.tokens[i].Label, PINFile: p.tokens[i].PINFile,
			Keyring: ring, KeepAlive: time.Hour, DataDir: data, Log: log, Isolation: isolation,
		})
	}
	return p
}

// start starts the HSM and has it closed when the test ends.
func (p *pair) start(policy hsm.Policy) *pair {
	p.t.Helper()
	h, err := hsm.Start(context.Background(), policy, p.configs)
	if err != nil {
		p.t.Fatal(err)
	}
	p.hsm = h
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			p.t.Error(err)
		}
		for _, m := range p.modules {
			if n := m.Totals().FinalizedInFlight; n != 0 {
				p.t.Errorf("C_Finalize was called %d times under a running call", n)
			}
		}
		if p.t.Failed() {
			p.t.Logf("log:\n%s", p.log)
		}
	})
	for _, m := range h.Members() {
		eventually(p.t, patience, m.Ready)
	}
	return p
}

// errWrong is an output that is not what the same key makes in software.
var errWrong = errors.New("wrong output")

// operations are what a member is for, each checked outside the token.
func (p *pair) operations() []func(ctx context.Context, input []byte) error {
	return []func(context.Context, []byte) error{p.signs(hsm.TAVSigning), p.seal, p.signs(hsm.ProximityToken), p.mac, p.signs(hsm.APITLS), p.roundTrip}
}

// signs gives the operation of signing with the key of a purpose.
func (p *pair) signs(purpose hsm.Purpose) func(context.Context, []byte) error {
	return func(ctx context.Context, input []byte) error {
		digest := sha256.Sum256(input)
		sig, err := p.hsm.Sign(ctx, string(purpose), digest[:], crypto.SHA256)
		if err != nil {
			return err
		}
		if !verifies(p.keys[purpose].public(), digest[:], sig) {
			return fmt.Errorf("%w: signature for %s", errWrong, purpose)
		}
		return nil
	}
}

// verifies reports whether a signature over a SHA-256 digest is good.
func verifies(pub crypto.PublicKey, digest, sig []byte) bool {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest, sig) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, digest, sig)
	default:
		return false
	}
}

func (p *pair) seal(ctx context.Context, input []byte) error {
	sealed, err := p.hsm.AgreeAndSeal(ctx, hsm.Sealing{
		Peer: p.peer.PublicKey(), IV: make([]byte, 12), Plaintext: input,
		OtherInfo: func(point []byte) []byte { return append([]byte("\x0did-aes256-GCMApple"), point...) },
	})
	if err != nil {
		return err
	}
	plain, err := appletest.OpenECDH(p.peer, sealed.EphemeralPublicKey, sealed.Ciphertext)
	if err != nil || !bytes.Equal(plain, input) {
		return fmt.Errorf("%w: seal: %w", errWrong, err)
	}
	return nil
}

func (p *pair) mac(ctx context.Context, input []byte) error {
	got, err := p.hsm.HMAC(ctx, string(hsm.CardIndex), input)
	if err != nil {
		return err
	}
	want := hmac.New(sha256.New, p.keys[hsm.CardIndex].secret)
	want.Write(input)
	if !bytes.Equal(got, want.Sum(nil)) {
		return fmt.Errorf("%w: HMAC", errWrong)
	}
	return nil
}

func (p *pair) roundTrip(ctx context.Context, input []byte) error {
	iv := make([]byte, 12)
	_, _ = rand.Read(iv)
	sealed, err := p.hsm.EncryptGCM(ctx, string(hsm.CardVault), iv, input[:1], input)
	if err != nil {
		return err
	}
	plain, err := p.hsm.DecryptGCM(ctx, string(hsm.CardVault), iv, input[:1], sealed)
	if err == nil && !bytes.Equal(plain, input) {
		return fmt.Errorf("%w: GCM", errWrong)
	}
	return err
}

// pressure is callers that mix all operations, and what came of them.
type pressure struct {
	stop       chan struct{}
	stopping   sync.Once
	running    sync.WaitGroup
	ok, failed atomic.Int64
}

// callers is how many call at once.
const callers = 16

// newPressure is without callers yet. Those it gets end before the test does, which they may
// write to.
func newPressure(t *testing.T) *pressure {
	pr := &pressure{stop: make(chan struct{})}
	t.Cleanup(pr.end)
	return pr
}

// press starts the callers. Wrong outputs fail the test.
func (p *pair) press() *pressure {
	pr := newPressure(p.t)
	for i := range callers {
		pr.running.Add(1)
		go func() {
			defer pr.running.Done()
			all := p.operations()
			for n := i; ; n++ {
				select {
				case <-pr.stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				err := all[n%len(all)](ctx, fmt.Appendf(nil, "caller %d, input %d", i, n))
				cancel()
				switch {
				case err == nil:
					pr.ok.Add(1)
				case errors.Is(err, errWrong):
					p.t.Error(err)
				default:
					pr.failed.Add(1)
					p.t.Logf("failed: %v", err)
				}
			}
		}()
	}
	return pr
}

// more waits for n further successes.
func (pr *pressure) more(t *testing.T, n int64) {
	t.Helper()
	want := pr.ok.Load() + n
	eventually(t, patience, func() error {
		if got := pr.ok.Load(); got < want {
			return fmt.Errorf("%d successes of %d", got, want)
		}
		return nil
	})
}

func (pr *pressure) end() {
	pr.stopping.Do(func() { close(pr.stop) })
	pr.running.Wait()
}

// busy are the signatures a member was asked for while do ran.
func (p *pair) busy(do func()) (a, b uint64) {
	before := [2]uint64{p.modules[0].Counts()["C_SignInit"], p.modules[1].Counts()["C_SignInit"]}
	do()
	return p.modules[0].Counts()["C_SignInit"] - before[0], p.modules[1].Counts()["C_SignInit"] - before[1]
}

// A member that fails for good costs at most the requests in flight on it, none wrong;
// mended, it is used again after its self-test.
func TestOneMemberFailsAndTheOtherServes(t *testing.T) {
	for _, policy := range []hsm.Policy{hsm.Failover, hsm.Spread} {
		t.Run(string(policy), func(t *testing.T) {
			p := newPair(t).start(policy)
			pr := p.press()
			a, b := p.busy(func() { pr.more(t, 200) })
			if a == 0 || (b != 0) != (policy == hsm.Spread) {
				t.Errorf("while both are well a is asked for %d signatures and b for %d", a, b)
			}

			p.modules[0].Inject(faultmodule.Rule{RV: pkcs11.CKR_DEVICE_ERROR, Times: faultmodule.Forever})
			eventually(t, patience, func() error {
				// While it drains, what it was given before still asks it for signatures.
				if s := p.hsm.Members()[0].Status(); s.State != hsm.Reinit {
					return fmt.Errorf("a is %s", s.State)
				}
				return nil
			})
			a, b = p.busy(func() { pr.more(t, 200) })
			if a != 0 || b == 0 {
				t.Errorf("while a is lost it is asked for %d signatures and b for %d", a, b)
			}
			if err := p.hsm.Ready(); err != nil {
				t.Errorf("with one member well: %v", err)
			}

			p.modules[0].Clear()
			eventually(t, patience, p.hsm.Members()[0].Ready)
			a, b = p.busy(func() { pr.more(t, 200) })
			if a == 0 {
				t.Errorf("mended, a is asked for %d signatures and b for %d", a, b)
			}
			pr.end()
			if n := pr.failed.Load(); n != 0 {
				t.Errorf("%d requests failed beside %d", n, pr.ok.Load())
			}
			if s := p.hsm.Stats(); s.EphemeralCreated != s.EphemeralDestroyed {
				t.Errorf("%d ephemeral objects made, %d destroyed", s.EphemeralCreated, s.EphemeralDestroyed)
			}
		})
	}
}

// What one member lacks the other one has: a key that is not there, or is another one.
func TestKeyThatOneMemberLacksIsServedByTheOther(t *testing.T) {
	p := newPair(t)
	other := p.keys[hsm.CardIndex]
	other.secret = bytes.Repeat([]byte{1}, 32)
	operate(t, p.tokens[0], func(o *operator) {
		o.deleteKey(p.keys[hsm.TAVSigning].entry)
		o.deleteKey(other.entry)
		o.importKey(other)
	})
	operate(t, p.tokens[1], func(o *operator) { o.deleteKey(p.keys[hsm.CardVault].entry) })
	for _, policy := range []hsm.Policy{hsm.Failover, hsm.Spread} {
		t.Run(string(policy), func(t *testing.T) {
			p.t = t
			p.start(policy)
			for i, operation := range p.operations() {
				for range 4 {
					if err := operation(context.Background(), []byte("input")); err != nil {
						t.Errorf("operation %d: %v", i, err)
					}
				}
			}
			for _, purpose := range hsm.Purposes() {
				if purpose == hsm.CardTransport || purpose == hsm.VisaZone {
					continue // the operator here has no material of these kinds to import
				}
				if k, err := p.hsm.Active(purpose); err != nil || k.Purpose != purpose {
					t.Errorf("%s: %v, %v", purpose, k.Name, err)
				}
			}
		})
	}
}

// A member whose login hangs keeps nobody else from serving: not at the start, and not
// when the other one has to log in anew. When the login comes back, so does the member.
func TestMemberThatHangsAtLoginLeavesTheOtherAlone(t *testing.T) {
	p := newPair(t)
	hang := p.modules[0].Hang("C_Login", 1)
	h, err := hsm.Start(context.Background(), hsm.Failover, p.configs)
	if err != nil {
		t.Fatal(err)
	}
	p.hsm = h
	t.Cleanup(func() {
		hang.Clear()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	hang.Await(1)
	eventually(t, patience, h.Ready)
	everything := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, operation := range p.operations() {
			if err := operation(ctx, []byte("input")); err != nil {
				return err
			}
		}
		return nil
	}
	if err := everything(); err != nil {
		t.Errorf("while a hangs at its login: %v", err)
	}
	p.modules[1].DropSessions()
	if err := everything(); err != nil {
		t.Errorf("after b had to log in anew: %v", err)
	}
	if s := h.Members()[0].Status().State; s == hsm.Ready {
		t.Error("a is ready without a login")
	}
	hang.Clear()
	eventually(t, patience, func() error { return h.Members()[0].Ready() })
	if err := everything(); err != nil {
		t.Error(err)
	}
}
