package integration

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/integration/actors"
	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/softhsm"
)

// rig is an HSM of one member behind a fault module, with a key of each purpose.
type rig struct {
	t     *testing.T
	fault *faultmodule.Module
	token *softhsm.Token
	cfg   hsm.Config
	hsm   *hsm.HSM
	log   *lockedBuffer
	wedge chan string
}

// isolation is where the modules of rigs and pairs are loaded. make isolation has the same
// tests run over children.
var isolation = hsm.Isolation(os.Getenv("MINTMARK_TEST_ISOLATION"))

// newRig makes the token and its keys, without starting the HSM.
func newRig(t *testing.T) *rig {
	t.Helper()
	token := softhsm.New(t)
	r := &rig{t: t, token: token, fault: faultmodule.New(t, token.Module), log: &lockedBuffer{}, wedge: make(chan string, 8)}
	r.cfg = hsm.Config{
		Name: "a", Module: r.fault.Path, TokenLabel: token.Label, PINFile: token.PINFile, DataDir: t.TempDir(),
		Keyring:   &hsm.Keyring{Environment: "test"},
		Isolation: isolation,
		KeepAlive: time.Hour, // tests call for what they want
		Log:       slog.New(slog.NewTextHandler(r.log, nil)),
		OnWedged:  func(member string) { r.wedge <- member },
	}
	r.cfg.Keyring = makeKeys(t, r.cfg)
	r.fault.Reset()
	return r
}

// rigPurposes are those that a rig has a key for: one RSA key, since making them takes long.
var rigPurposes = []hsm.Purpose{hsm.TAVSigning, hsm.ProximityToken, hsm.APITLS, hsm.CardVault, hsm.CardIndex}

func makeKeys(t *testing.T, cfg hsm.Config) *hsm.Keyring {
	t.Helper()
	cfg.CallTimeout = 2 * time.Minute // a key is made in one call
	tok, err := hsm.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ring := &hsm.Keyring{Environment: "test"}
	for _, p := range rigPurposes {
		k, _, err := tok.Generate(context.Background(), hsm.NewKey{Name: string(p), Purpose: p}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		ring.Keys = append(ring.Keys, k)
	}
	if err := tok.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return ring
}

// start starts the HSM and waits until it is ready.
func (r *rig) start() *rig {
	r.t.Helper()
	r.launch()
	eventually(r.t, patience, r.hsm.Ready)
	return r
}

// launch starts the HSM, ready or not.
func (r *rig) launch() {
	r.t.Helper()
	h, err := hsm.Start(context.Background(), hsm.Failover, []hsm.Config{r.cfg})
	if err != nil {
		r.t.Fatal(err)
	}
	r.hsm = h
	r.t.Cleanup(func() {
		r.fault.Clear()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := h.Close(ctx); err != nil {
			r.t.Error(err)
		}
		if n := r.fault.Totals().FinalizedInFlight; n != 0 {
			r.t.Errorf("C_Finalize was called %d times under a running call", n)
		}
		if r.t.Failed() {
			r.t.Logf("log:\n%s", r.log)
		}
	})
}

// sign makes an RSA signature and verifies it.
func (r *rig) sign() error { return r.signFor(hsm.TAVSigning) }

// signFor makes a signature with the key of a purpose and verifies it. An error is the
// HSM's; a wrong signature fails the test.
func (r *rig) signFor(purpose hsm.Purpose) error {
	digest := sha256.Sum256([]byte("integration"))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	sig, err := r.hsm.Sign(ctx, string(purpose), digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	pub, err := r.hsm.Public(string(purpose))
	if err != nil {
		return err
	}
	if !verifies(pub, digest[:], sig) {
		r.t.Errorf("wrong signature for %s: %x", purpose, sig)
	}
	return nil
}

// seal seals a payload and opens it on the other side.
func (r *rig) seal() error {
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err = r.hsm.AgreeAndSeal(ctx, hsm.Sealing{
		Peer: peer.PublicKey(), OtherInfo: func(p []byte) []byte { return p }, IV: make([]byte, 12), Plaintext: []byte("payload"),
	})
	return err
}

// mac computes a card index twice as the vault does.
func (r *rig) mac() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := r.hsm.HMAC(ctx, string(hsm.CardIndex), []byte("x"))
	return err
}

func (r *rig) everything() error {
	return errors.Join(r.sign(), r.signFor(hsm.ProximityToken), r.signFor(hsm.APITLS), r.seal(), r.mac())
}

// refused is nil while the token's refusal of the PIN is what keeps the member from work.
func (r *rig) refused() error { return refused(r.hsm.Members()[0]) }

func refused(m hsm.Member) error {
	if s := m.Status(); s.State != hsm.Refused {
		return fmt.Errorf("state is %v", s)
	}
	return nil
}

// eventually tries until it succeeds, and says how long it took.
func eventually(t *testing.T, within time.Duration, try func() error) time.Duration {
	t.Helper()
	return actors.Eventually(t, within, try)
}

// Lost sessions and logins are cured within the request that meets them.
func TestLostSessionsAreCuredInPlace(t *testing.T) {
	for name, break_ := range map[string]func(*faultmodule.Module){
		"all sessions dropped": (*faultmodule.Module).DropSessions,
		"logged out":           (*faultmodule.Module).Logout,
		"C_Sign answers SESSION_HANDLE_INVALID once": func(m *faultmodule.Module) {
			m.Inject(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_SESSION_HANDLE_INVALID})
		},
		"C_DeriveKey answers SESSION_CLOSED once": func(m *faultmodule.Module) {
			m.Inject(faultmodule.Rule{Function: "C_DeriveKey", RV: pkcs11.CKR_SESSION_CLOSED})
		},
		"C_SignInit answers KEY_HANDLE_INVALID once": func(m *faultmodule.Module) {
			m.Inject(faultmodule.Rule{Function: "C_SignInit", RV: pkcs11.CKR_KEY_HANDLE_INVALID})
		},
		"C_Sign answers GENERAL_ERROR once": func(m *faultmodule.Module) {
			m.Inject(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_GENERAL_ERROR})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).start()
			if err := r.everything(); err != nil {
				t.Fatal(err)
			}
			break_(r.fault)
			var wg sync.WaitGroup
			for range 16 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range 4 {
						if err := r.everything(); err != nil {
							t.Error(err)
						}
					}
				}()
			}
			wg.Wait()
			if s := r.hsm.Members()[0].Status(); s.State != hsm.Ready {
				t.Errorf("state is %v", s)
			}
		})
	}
}

// A lost device is drained, reinitialised and used again; meanwhile work is refused at
// once, and the log has one line a change of state.
func TestLostDeviceComesBack(t *testing.T) {
	for name, tt := range map[string]struct {
		break_ func(*faultmodule.Module)
		mend   func(*faultmodule.Module)
	}{
		"CRYPTOKI_NOT_INITIALIZED": {(*faultmodule.Module).Uninitialize, func(*faultmodule.Module) {}},
		"DEVICE_ERROR once": {func(m *faultmodule.Module) {
			m.Inject(faultmodule.Rule{Function: "C_Sign", RV: pkcs11.CKR_DEVICE_ERROR})
		}, func(*faultmodule.Module) {}},
		"DEVICE_REMOVED until mended": {func(m *faultmodule.Module) {
			m.Inject(faultmodule.Rule{RV: pkcs11.CKR_DEVICE_REMOVED, Times: faultmodule.Forever})
		}, (*faultmodule.Module).Clear},
		"GENERAL_ERROR until mended": {func(m *faultmodule.Module) {
			m.Inject(faultmodule.Rule{RV: pkcs11.CKR_GENERAL_ERROR, Times: faultmodule.Forever})
		}, (*faultmodule.Module).Clear},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).start()
			if err := r.everything(); err != nil {
				t.Fatal(err)
			}
			tt.break_(r.fault)
			var down *hsm.DownError
			if err := r.sign(); !errors.As(err, &down) {
				t.Fatalf("the request that meets the fault: %v", err)
			}
			for _, p := range []hsm.Purpose{hsm.TAVSigning, hsm.ProximityToken, hsm.APITLS} {
				if _, err := r.hsm.Public(string(p)); err != nil {
					t.Errorf("the public key for %s is gone with the device: %v", p, err)
				}
			}
			calls := r.fault.Counts()["C_SignInit"]
			for range 100 {
				err := r.sign()
				if err == nil {
					break
				}
				if !errors.As(err, &down) { // as one that had waited would not be
					t.Fatalf("while the token is down: %v", err)
				}
			}
			if n := r.fault.Counts()["C_SignInit"]; strings.Contains(name, "until") && n != calls {
				t.Errorf("%d calls reached a token known to be down", n-calls)
			}
			tt.mend(r.fault)
			took := eventually(t, patience, r.everything)
			t.Logf("well again %v after the fault's end", took)
			if n := strings.Count(r.log.String(), "HSM member changes state"); n > 6 {
				t.Errorf("%d log lines for one fault", n)
			}
		})
	}
}

// A hang shorter than the call timeout costs the calls that meet it some time, no more.
func TestShortHangIsWaitedFor(t *testing.T) {
	r := newRig(t)
	r.cfg.CallTimeout = patience
	r.start()
	stuck := r.fault.Hang("C_Sign", 1)
	done := make(chan error, 1)
	go func() { done <- r.sign() }()
	stuck.Await(1)
	stuck.Clear()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if s := r.hsm.Members()[0].Status(); s.State != hsm.Ready {
		t.Errorf("state is %v", s)
	}
}

// A call that hangs past its timeout quarantines the module: its caller is answered, new
// work is refused at once, and when it comes back in time the module is opened anew.
func TestLongHangIsQuarantined(t *testing.T) {
	r := newRig(t)
	r.cfg.CallTimeout, r.cfg.DrainTimeout = 300*time.Millisecond, time.Minute
	r.start()
	stuck := r.fault.Hang("C_Sign", 1)
	var down *hsm.DownError
	if err := r.sign(); !errors.As(err, &down) {
		t.Fatalf("the caller of the stuck call got %v", err)
	}
	if err := r.seal(); !errors.As(err, &down) {
		t.Errorf("new work got %v", err)
	}
	stuck.Clear()
	eventually(t, patience, r.everything)
}

// A call that never comes back wedges the module: the process is asked to end, and
// nothing is finalized under the call.
func TestEndlessHangAsksForANewProcess(t *testing.T) {
	if isolation == hsm.ProcessIsolation {
		t.Skip("there is a process to end: see TestEndlessHangCostsOneChild")
	}
	r := newRig(t)
	// A call that is slow on a busy machine is no hang: it has come back when it is drained.
	r.cfg.CallTimeout, r.cfg.DrainTimeout = 500*time.Millisecond, 4*time.Second
	h, err := hsm.Start(context.Background(), hsm.Failover, []hsm.Config{r.cfg})
	if err != nil {
		t.Fatal(err)
	}
	r.hsm = h
	eventually(t, patience, h.Ready)
	stuck := r.fault.Hang("C_DeriveKey", 1)
	met := make(chan error, 1)
	go func() { met <- r.seal() }()
	stuck.Await(1)
	finalized := r.fault.Counts()["C_Finalize"]
	var down *hsm.DownError
	if err := <-met; !errors.As(err, &down) {
		t.Fatalf("the caller of the stuck call got %v", err)
	}
	if member := <-r.wedge; member != "a" {
		t.Errorf("member %q is wedged", member)
	}
	if s := h.Members()[0].Status(); s.State != hsm.Wedged {
		t.Errorf("state is %v", s)
	}
	if n := r.fault.Counts()["C_Finalize"] - finalized; n != 0 {
		t.Errorf("C_Finalize was called %d times", n)
	}
	stuck.Clear() // lets the call, and with it the test's process, go on
}

// A refused PIN is tried once: not by further requests, not by restarts, not by another
// member; a replaced PIN file is tried at once.
func TestRefusedPINIsTriedOnce(t *testing.T) {
	r := newRig(t)
	right, err := os.ReadFile(r.token.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.PINFile = filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(r.cfg.PINFile, []byte("wrong-pin"), 0o600); err != nil {
		t.Fatal(err)
	}
	var h *hsm.HSM
	for restart := range 4 {
		if h, err = hsm.Start(context.Background(), hsm.Failover, []hsm.Config{r.cfg}); err != nil {
			t.Fatal(err)
		}
		r.hsm = h
		eventually(t, patience, r.refused)
		for range 250 {
			if err := r.sign(); err == nil {
				t.Fatal("signed with a refused PIN")
			}
		}
		if err := r.refused(); err != nil {
			t.Errorf("start %d: %v", restart, err)
		}
		if _, err := hsm.Open(context.Background(), r.cfg); !errors.Is(err, hsm.ErrLoginRefused) {
			t.Errorf("a command gets %v", err)
		}
		if restart < 3 {
			if err := h.Close(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := r.fault.Counts()["C_Login"]; n != 1 {
		t.Errorf("C_Login was called %d times with a wrong PIN", n)
	}
	if err := os.Remove(r.cfg.PINFile); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.cfg.PINFile, bytes.TrimSpace(right), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, r.sign)
	if err := h.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// A start without a token is a start: the member comes up when its token does.
func TestStartsWithoutItsToken(t *testing.T) {
	r := newRig(t)
	away := r.token.Dir + "/tokens-away"
	if err := os.Rename(r.token.Dir+"/tokens", away); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(r.token.Dir+"/tokens", 0o700); err != nil {
		t.Fatal(err)
	}
	r.launch()
	var down *hsm.DownError
	if err := r.sign(); !errors.As(err, &down) {
		t.Fatalf("without a token: %v", err)
	}
	if err := os.Remove(r.token.Dir + "/tokens"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, r.token.Dir+"/tokens"); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, r.everything)
}
