package faultmodule_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/softhsm"
)

func TestForwardsAndCounts(t *testing.T) {
	fault, h := setup(t)
	public, private := h.mustPair()
	fault.Reset()
	signature, err := h.sign(h.session, private)
	h.must(err)
	if !verifies(h.point(public), signature) {
		t.Error("the signature does not verify")
	}
	// miekg asks twice, for the length and for the value.
	want := map[string]uint64{"C_SignInit": 1, "C_Sign": 2, "C_GetAttributeValue": 2}
	if got := fault.Counts(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if _, err := h.Sign(h.session, digest[:]); err == nil {
		t.Error("C_Sign without C_SignInit succeeded")
	}
	if got := fault.Failures(); fmt.Sprint(got) != "map[C_Sign:1]" {
		t.Errorf("failures %v, want one of C_Sign", got)
	}
}

func TestCountsObjectsAndSessions(t *testing.T) {
	fault, h := setup(t)
	second := h.open()
	public, private := h.mustPair()
	shared, err := h.DeriveKey(h.session,
		[]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE,
			pkcs11.NewECDH1DeriveParams(pkcs11.CKD_NULL, nil, h.point(public)))},
		private, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
			pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		})
	h.must(err)
	aes := h.secret(pkcs11.CKM_AES_KEY_GEN)
	copied, err := h.CopyObject(h.session, aes, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "copy")})
	h.must(err)
	data, err := h.CreateObject(h.session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, "x"),
	})
	h.must(err)
	if got := fault.Totals(); got.ObjectsCreated != 6 || got.ObjectsDestroyed != 0 {
		t.Errorf("%+v, want 6 objects created", got)
	}
	for _, object := range []pkcs11.ObjectHandle{public, private, shared, aes, copied, data} {
		h.must(h.DestroyObject(h.session, object))
	}
	wants(t, h.DestroyObject(h.session, data), pkcs11.CKR_OBJECT_HANDLE_INVALID)
	h.must(h.CloseSession(second))
	want := faultmodule.Totals{ObjectsCreated: 6, ObjectsDestroyed: 6, SessionsOpened: 2, SessionsClosed: 1}
	if got := fault.Totals(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	h.open()
	h.must(h.CloseAllSessions(h.slot))
	if got := fault.Totals(); got.SessionsOpened != 3 || got.SessionsClosed != 3 {
		t.Errorf("%+v, want 3 sessions opened and closed", got)
	}
}

func TestRuleChoosesItsCalls(t *testing.T) {
	const ok = 0
	for _, tc := range []struct {
		name string
		rule faultmodule.Rule
		want []uint // what C_GetSessionInfo returns, call by call
	}{
		{"once", faultmodule.Rule{Times: 1}, []uint{pkcs11.CKR_DEVICE_ERROR, ok, ok}},
		{"once unless told", faultmodule.Rule{}, []uint{pkcs11.CKR_DEVICE_ERROR, ok}},
		{"twice", faultmodule.Rule{Times: 2}, []uint{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_ERROR, ok}},
		{"the third", faultmodule.Rule{After: 2, Times: 1}, []uint{ok, ok, pkcs11.CKR_DEVICE_ERROR, ok}},
		{"for ever", faultmodule.Rule{Times: faultmodule.Forever}, []uint{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_ERROR}},
	} {
		for _, function := range []string{"C_GetSessionInfo", ""} {
			t.Run(tc.name+" "+function, func(t *testing.T) {
				fault, h := setup(t)
				tc.rule.Function, tc.rule.RV = function, pkcs11.CKR_DEVICE_ERROR
				rule := fault.Inject(tc.rule)
				var fired uint64
				for i, rv := range tc.want {
					_, err := h.GetSessionInfo(h.session)
					if rv == ok && err != nil || rv != ok && !errors.Is(err, pkcs11.Error(rv)) {
						t.Errorf("call %d: %v, want %v", i, err, pkcs11.Error(rv))
					}
					if rv != ok {
						fired++
					}
				}
				if rule.Fired() != fired || fault.Totals().Injected != fired {
					t.Errorf("fired %d, injected %d, want %d", rule.Fired(), fault.Totals().Injected, fired)
				}
				rule.Clear()
				if _, err := h.GetSessionInfo(h.session); err != nil {
					t.Errorf("after Clear: %v", err)
				}
			})
		}
	}
}

func TestFirstRuleWithAnErrorWins(t *testing.T) {
	fault, h := setup(t)
	delay := fault.Delay("C_GetSessionInfo", time.Millisecond, faultmodule.Forever)
	fault.Inject(faultmodule.Rule{Function: "C_GetSessionInfo", RV: pkcs11.CKR_DEVICE_REMOVED})
	fault.Inject(faultmodule.Rule{Function: "C_GetSessionInfo", RV: pkcs11.CKR_DEVICE_MEMORY})
	for _, rv := range []uint{pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_MEMORY} {
		_, err := h.GetSessionInfo(h.session)
		wants(t, err, rv)
	}
	if delay.Fired() != 2 {
		t.Errorf("the delay acted upon %d calls, want 2", delay.Fired())
	}
}

func TestForwardLosesTheAnswer(t *testing.T) {
	fault, h := setup(t)
	fault.Inject(faultmodule.Rule{Function: "C_GenerateKeyPair", RV: pkcs11.CKR_DEVICE_ERROR, Forward: true})
	_, _, err := h.pair()
	wants(t, err, pkcs11.CKR_DEVICE_ERROR)
	if got := fault.Totals().ObjectsCreated; got != 2 {
		t.Errorf("%d objects made, want 2", got)
	}
}

func TestCorruptGivesAWrongSignature(t *testing.T) {
	fault, h := setup(t)
	public, private := h.mustPair()
	rule := fault.Inject(faultmodule.Rule{Function: "C_Sign", Corrupt: true, Times: 1})
	wrong, err := h.sign(h.session, private)
	h.must(err)
	right, err := h.sign(h.session, private)
	h.must(err)
	point := h.point(public)
	if verifies(point, wrong) || !verifies(point, right) || rule.Fired() != 1 {
		t.Errorf("signatures verify: %t, %t, want false, true; rule fired %d times", verifies(point, wrong), verifies(point, right), rule.Fired())
	}
}

func TestDelayHoldsACall(t *testing.T) {
	fault, h := setup(t)
	const d = 30 * time.Millisecond
	fault.Delay("C_GetSessionInfo", d, 1)
	begin := time.Now()
	_, err := h.GetSessionInfo(h.session)
	h.must(err)
	if took := time.Since(begin); took < d {
		t.Errorf("took %v, want at least %v", took, d)
	}
}

func TestHangHoldsACallUntilCleared(t *testing.T) {
	fault, h := setup(t)
	_, private := h.mustPair()
	hang := fault.Hang("C_Sign", faultmodule.Forever)
	session := h.open()
	done := make(chan error, 1)
	go func() {
		_, err := h.sign(session, private)
		done <- err
	}()
	hang.Await(1)

	// Others are not held, nor is a command, which must not wait for the one that is.
	_, err := h.GetSessionInfo(h.session)
	h.must(err)
	fault.DropSessions()
	_, err = h.GetSessionInfo(h.session)
	wants(t, err, pkcs11.CKR_SESSION_HANDLE_INVALID)
	select {
	case err := <-done:
		t.Fatalf("the call that hangs returned %v", err)
	default:
	}

	hang.Clear()
	wants(t, <-done, pkcs11.CKR_SESSION_HANDLE_INVALID)
}

func TestHangMayEndInAnError(t *testing.T) {
	fault, h := setup(t)
	hang := fault.Inject(faultmodule.Rule{Function: "C_GetSessionInfo", Hang: true, RV: pkcs11.CKR_DEVICE_REMOVED})
	done := make(chan error, 1)
	go func() {
		_, err := h.GetSessionInfo(h.session)
		done <- err
	}()
	hang.Await(1)
	fault.Clear()
	wants(t, <-done, pkcs11.CKR_DEVICE_REMOVED)
}

func TestCommands(t *testing.T) {
	for _, tc := range []struct {
		name    string
		command func(*faultmodule.Module)
		want    uint
		recover func(h *hsm) // what brings service back
	}{
		{"DropSessions", (*faultmodule.Module).DropSessions, pkcs11.CKR_SESSION_HANDLE_INVALID, (*hsm).login},
		{"Logout", (*faultmodule.Module).Logout, pkcs11.CKR_USER_NOT_LOGGED_IN, func(h *hsm) {
			h.must(h.Login(h.session, pkcs11.CKU_USER, h.token.PIN()))
		}},
		{"Uninitialize", (*faultmodule.Module).Uninitialize, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, func(h *hsm) {
			h.must(h.Initialize())
			h.login()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fault, h := setup(t)
			h.open()
			tc.command(fault)
			_, _, err := h.pair()
			wants(t, err, tc.want)
			if got := fault.Totals(); tc.name != "Logout" && got.SessionsClosed != got.SessionsOpened {
				t.Errorf("%+v: sessions are left", got)
			}
			tc.recover(h)
			h.mustPair()
		})
	}
}

// TestCommandsUnderLoad drops and logs out under calls in flight, which crashes
// SoftHSM itself.
func TestCommandsUnderLoad(t *testing.T) {
	fault, h := setup(t)
	_, private := h.mustPair()
	var stop atomic.Bool
	var workers sync.WaitGroup
	for range 4 {
		session := h.open() // of its own: two calls in one session at a time are the caller's fault, and crash SoftHSM
		workers.Go(func() {
			for !stop.Load() {
				if _, err := h.sign(session, private); err == nil {
					continue
				}
				// A failure to open is noise of the faults, like the failure to sign.
				if s, err := h.OpenSession(h.slot, pkcs11.CKF_SERIAL_SESSION); err == nil {
					session = s
				}
			}
		})
	}
	calls := fault.Inject(faultmodule.Rule{Function: "C_SignInit", Delay: 1, Times: faultmodule.Forever})
	for i := range 40 {
		if i%2 == 0 {
			fault.DropSessions()
		} else {
			fault.Logout()
		}
		calls.Await(uint64(i+1) * 20)
	}
	stop.Store(true)
	workers.Wait()
	h.login()
	h.mustPair()
}

func TestFinalizeUnderACallIsCounted(t *testing.T) {
	fault, h := setup(t)
	hang := fault.Hang("C_GetSessionInfo", 1)
	done := make(chan error, 1)
	go func() {
		_, err := h.GetSessionInfo(h.session)
		done <- err
	}()
	hang.Await(1)
	h.must(h.Finalize())
	if got := fault.Totals(); got.FinalizedInFlight != 1 || got.SessionsClosed != 1 {
		t.Errorf("%+v, want one C_Finalize in flight, one session closed", got)
	}
	hang.Clear()
	wants(t, <-done, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
}

func TestTwoModulesInOneProcess(t *testing.T) {
	var modules [2]*hsm
	var faults [2]*faultmodule.Module
	for i := range modules {
		token, err := softhsm.Create(t.TempDir(), fmt.Sprintf("member-%d", i))
		if err != nil {
			t.Fatal(err)
		}
		faults[i] = faultmodule.NewWith(t, faultmodule.Config{Inner: token.Module, OwnCopy: true, SoftHSMConf: token.ConfigFile})
		modules[i] = start(t, faults[i].Path, token)
	}
	faults[0].DropSessions()
	_, _, err := modules[0].pair()
	wants(t, err, pkcs11.CKR_SESSION_HANDLE_INVALID)
	modules[1].mustPair()
	modules[0].must(modules[0].Finalize())
	modules[1].mustPair()
	if value, set := os.LookupEnv("SOFTHSM2_CONF"); set && strings.Contains(value, "member") {
		t.Errorf("SOFTHSM2_CONF is left at %s", value)
	}
}

// softoken finds NSS's PKCS#11 module.
func softoken(t *testing.T) string {
	t.Helper()
	for _, place := range []string{
		"/usr/lib/*-linux-*/libsoftokn3.so",
		"/usr/lib/*-linux-*/nss/libsoftokn3.so",
		"/usr/lib64/libsoftokn3.so",
		"/usr/lib/libsoftokn3.so",
		"/opt/homebrew/lib/libsoftokn3.dylib",
		"/usr/local/lib/libsoftokn3.dylib",
		"/home/linuxbrew/.linuxbrew/lib/libsoftokn3.so",
	} {
		if found, _ := filepath.Glob(place); len(found) > 0 {
			return found[0]
		}
	}
	t.Fatal("libsoftokn3 is not installed (tools/ensure.sh nss installs it)")
	return ""
}

// TestReservedReachesTheModule uses NSS, a module that reads its parameters there.
func TestReservedReachesTheModule(t *testing.T) {
	fault := faultmodule.NewWith(t, faultmodule.Config{
		Inner:    softoken(t),
		Reserved: "configdir='' certPrefix='' keyPrefix='' secmod='' flags=noCertDB,noModDB cryptoTokenDescription='from pReserved' ",
	})
	h := &hsm{Ctx: pkcs11.New(fault.Path), t: t}
	h.must(h.Initialize())
	defer h.Destroy()
	defer h.Finalize()
	slots, err := h.GetSlotList(true)
	h.must(err)
	for _, s := range slots {
		if info, err := h.GetTokenInfo(s); err == nil && info.Label == "from pReserved" {
			return
		}
	}
	t.Error("no token has the description that was given in pReserved")
}

func TestWithoutARealModuleInitializeFails(t *testing.T) {
	fault := faultmodule.New(t, "/nowhere.so")
	module := pkcs11.New(fault.Path)
	defer module.Destroy()
	wants(t, module.Initialize(), pkcs11.CKR_GENERAL_ERROR)
}
