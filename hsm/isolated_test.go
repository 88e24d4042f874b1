package hsm

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
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/softhsm"
)

// wherever runs a test on a member in this process and on one in a process of its own.
func wherever(t *testing.T, on *softhsm.Token, ring *Keyring, test func(t *testing.T, m Member), change ...func(*Config)) {
	t.Helper()
	for _, where := range []Isolation{NoIsolation, ProcessIsolation} {
		t.Run(string(where), func(t *testing.T) {
			needsLinux(t, where)
			cfg := configFor(on, ring)
			cfg.Isolation, cfg.DataDir = where, t.TempDir()
			for _, c := range change {
				c(&cfg)
			}
			h, err := Start(context.Background(), Failover, []Config{cfg})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := h.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
			until(func() bool { return h.Ready() == nil })
			test(t, h.Members()[0])
		})
	}
}

// needsLinux skips a test of a member in a process of its own elsewhere.
func needsLinux(t testing.TB, where Isolation) {
	t.Helper()
	if where == ProcessIsolation && runtime.GOOS != "linux" {
		t.Skip(errNoIsolation)
	}
}

// full is a token with a key of each kind, and the keyring that lists them: one that is
// next, one that is retired, one that is missing and one that is not for this process too.
func full(t *testing.T) (*softhsm.Token, *Keyring) {
	t.Helper()
	on := softhsm.New(t)
	tav, vault, index := stock(t, on)
	keys := []Key{tav, vault, index, stockEC(t, on, "proximity", ProximityToken), stockEC(t, on, "transport", CardTransport)}
	change(t, on, func(u *unit) {
		keys = append(keys, importSecret(t, u, entry("zone", VisaZone), []byte("0123456789abcdefFEDCBA98")))
	})
	for name, state := range map[string]State{"coming": Next, "gone": Retired} {
		k := stockEC(t, on, name, NetworkOTP)
		k.State = state
		keys = append(keys, k)
	}
	missing := entry("missing", APITLS)
	missing.Pins = tav.Pins
	ring := ringOf(append(keys, missing, stockEC(t, on, "log", AuditCheckpoint))...)
	return on, ring.Only(slices.DeleteFunc(Purposes(), func(p Purpose) bool { return p == AuditCheckpoint })...)
}

// Wherever its module is, a member does the same work.
func TestMemberWorksTheSameWherever(t *testing.T) {
	on, ring := full(t)
	wherever(t, on, ring, func(t *testing.T, m Member) {
		ctx := context.Background()
		for name, verifies := range map[string]func(pub crypto.PublicKey, sig []byte) bool{
			"tav": func(pub crypto.PublicKey, sig []byte) bool {
				return rsa.VerifyPKCS1v15(pub.(*rsa.PublicKey), crypto.SHA256, sha("m"), sig) == nil
			},
			"proximity": func(pub crypto.PublicKey, sig []byte) bool {
				return ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), sha("m"), sig)
			},
		} {
			pub, err := m.Public(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := m.Signer(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			sig, err := m.Sign(ctx, name, sha("m"), crypto.SHA256)
			again, err2 := s.Sign(nil, sha("m"), crypto.SHA256)
			if err != nil || err2 != nil || !verifies(pub, sig) || !verifies(s.Public(), again) {
				t.Errorf("%s: %v, %v", name, err, err2)
			}
			if err := m.SelfTest(ctx, name); err != nil {
				t.Error(err)
			}
		}
		requireBothSeals(t, m)
		requireAgreement(t, m)
		requireSecretKeys(t, m)
		if info, err := m.Info(ctx); err != nil || info.Serial != on.Serial || info.Label != on.Label {
			t.Errorf("%+v, %v", info, err)
		}
		if err := m.Ping(ctx); err != nil {
			t.Error(err)
		}
		if n, err := m.SessionObjects(ctx); err != nil || n != 0 {
			t.Errorf("%d session objects, %v", n, err)
		}
		if s := m.Stats(); s.EphemeralCreated == 0 || s.EphemeralCreated != s.EphemeralDestroyed {
			t.Errorf("%+v", s)
		}
		if s := m.Status(); s.State != Ready || time.Since(s.LastSignature) > time.Minute {
			t.Errorf("%v, last signature %v", s, s.LastSignature)
		}
	})
}

// requireBothSeals requires that OtherInfo and associated data are those of the ephemeral key.
func requireBothSeals(t *testing.T, m Member) {
	t.Helper()
	to := receiver(t)
	for name, aad := range map[string]func([]byte) []byte{"no associated data": nil, "associated data": func(p []byte) []byte { return p[1:9] }} {
		s := appleSealing(t, to.PublicKey())
		s.AAD = aad
		out, err := m.AgreeAndSeal(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		ephemeral, err := ecdh.P256().NewPublicKey(out.EphemeralPublicKey)
		if err != nil {
			t.Fatal(err)
		}
		z, err := to.ECDH(ephemeral)
		if err != nil {
			t.Fatal(err)
		}
		k := sha256.Sum256(slices.Concat([]byte{0, 0, 0, 1}, z, appleInfo(out.EphemeralPublicKey)))
		var extra []byte
		if aad != nil {
			extra = aad(out.EphemeralPublicKey)
		}
		if got, err := hostGCM(t, k[:]).Open(nil, s.IV, out.Ciphertext, extra); err != nil || !bytes.Equal(got, s.Plaintext) {
			t.Errorf("%s: opened %q, %v", name, got, err)
		}
	}
}

func requireAgreement(t *testing.T, m Member) {
	t.Helper()
	pub, err := m.Public("transport")
	if err != nil {
		t.Fatal(err)
	}
	to, err := pub.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	peer := receiver(t)
	z, err := peer.ECDH(to)
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(slices.Concat([]byte{0, 0, 0, 1}, z, []byte("info")))
	if got, err := m.AgreeKey(context.Background(), "transport", peer.PublicKey(), []byte("info")); err != nil || !bytes.Equal(got, want[:]) {
		t.Errorf("agreed on %x, %v; want %x", got, err, want)
	}
}

func requireSecretKeys(t *testing.T, m Member) {
	t.Helper()
	ctx, iv, aad := context.Background(), bytes.Repeat([]byte{7}, gcmIV), []byte("row 1")
	for _, text := range [][]byte{nil, []byte("card"), bytes.Repeat([]byte("long "), 50_000)} {
		sealed, err := m.EncryptGCM(ctx, "vault", iv, aad, text)
		if err != nil || !bytes.Equal(sealed, hostGCM(t, fill(1)).Seal(nil, iv, text, aad)) {
			t.Fatalf("%d bytes sealed from %d, %v", len(sealed), len(text), err)
		}
		if got, err := m.DecryptGCM(ctx, "vault", iv, aad, sealed); err != nil || !bytes.Equal(got, text) {
			t.Errorf("opened %d bytes of %d, %v", len(got), len(text), err)
		}
	}
	mac := hmac.New(sha256.New, fill(2))
	mac.Write([]byte("data"))
	if got, err := m.HMAC(ctx, "index", []byte("data")); err != nil || !bytes.Equal(got, mac.Sum(nil)) {
		t.Errorf("HMAC %x, %v", got, err)
	}
	if got, err := m.EncryptTDEA(ctx, "zone", make([]byte, 16)); err != nil || len(got) != 16 || !bytes.Equal(got[:3], []byte{0x6b, 0x44, 0xfa}) && got[0] == got[8] {
		t.Errorf("TDEA %x, %v", got, err)
	}
}

// features are what callers ask an error.
func features(err error) string {
	if err == nil {
		return "none"
	}
	var b strings.Builder
	var later interface{ RetryAfter() time.Duration }
	if errors.As(err, &later) {
		fmt.Fprintf(&b, "again after %v; ", later.RetryAfter())
	}
	var known interface{ Known() bool }
	if errors.As(err, &known) {
		fmt.Fprintf(&b, "known %t; ", known.Known())
	}
	var code *Error
	if errors.As(err, &code) {
		fmt.Fprintf(&b, "%v of class %v; ", code, code.Class())
	}
	var key *KeyError
	if errors.As(err, &key) {
		fmt.Fprintf(&b, "%v; ", key)
	}
	var down *DownError
	if errors.As(err, &down) {
		fmt.Fprintf(&b, "%s is %s for %s; ", down.Status.Member, down.Status.State, down.Status.Cause)
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			fmt.Fprintf(&b, "%v; ", s)
		}
	}
	return fmt.Sprintf("%s[%s]", b.String(), outcome(err))
}

// Wherever its module is, a member refuses the same, and says so in the same words.
func TestMemberRefusesTheSameWherever(t *testing.T) {
	on, ring := full(t)
	said := map[string]string{}
	wherever(t, on, ring, func(t *testing.T, m Member) {
		ctx, iv := context.Background(), make([]byte, gcmIV)
		sealed, err := m.EncryptGCM(ctx, "vault", iv, nil, []byte("card"))
		if err != nil {
			t.Fatal(err)
		}
		sealed[0] ^= 1
		noPeer := appleSealing(t, nil)
		noInfo := appleSealing(t, receiver(t).PublicKey())
		noInfo.OtherInfo = func([]byte) []byte { return nil }
		p384, err := ecdh.P384().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]error{
			"altered ciphertext":   second(m.DecryptGCM(ctx, "vault", iv, nil, sealed)),
			"short IV":             second(m.EncryptGCM(ctx, "vault", iv[:11], nil, nil)),
			"short digest":         second(m.Sign(ctx, "tav", sha("m")[:20], crypto.SHA256)),
			"another hash":         second(m.Sign(ctx, "tav", make([]byte, 20), crypto.SHA1)),
			"no options":           second(m.Sign(ctx, "tav", sha("m"), nil)),
			"PSS":                  second(m.Sign(ctx, "tav", sha("m"), &rsa.PSSOptions{Hash: crypto.SHA256})),
			"unlisted key":         second(m.Sign(ctx, "nobody's", sha("m"), crypto.SHA256)),
			"key that is next":     second(m.Sign(ctx, "coming", sha("m"), crypto.SHA256)),
			"retired key":          second(m.Sign(ctx, "gone", sha("m"), crypto.SHA256)),
			"missing key":          second(m.Sign(ctx, "missing", sha("m"), crypto.SHA256)),
			"key of another role":  second(m.Sign(ctx, "log", sha("m"), crypto.SHA256)),
			"key that agrees":      second(m.Sign(ctx, "transport", sha("m"), crypto.SHA256)),
			"key that signs":       second(m.AgreeKey(ctx, "proximity", receiver(t).PublicKey(), []byte("i"))),
			"no peer":              second(m.AgreeAndSeal(ctx, noPeer)),
			"peer elsewhere":       second(m.AgreeKey(ctx, "transport", p384.PublicKey(), []byte("i"))),
			"no OtherInfo":         second(m.AgreeAndSeal(ctx, noInfo)),
			"half a block":         second(m.EncryptTDEA(ctx, "zone", make([]byte, 4))),
			"HMAC with an AES key": second(m.HMAC(ctx, "vault", []byte("x"))),
			"public half of AES":   second(m.Public("vault")),
			"active, not bound":    second(m.Active(AuditCheckpoint)),
			"active, missing":      second(m.Active(APITLS)),
			"signer, retired":      second(m.Signer(ctx, "gone")),
			"self-test, retired":   m.SelfTest(ctx, "gone"),
		}
		for _, k := range m.Keys() {
			all["state of "+k.Name] = fmt.Errorf("%s", k.Problem)
		}
		for what, err := range all {
			if err == nil {
				t.Errorf("%s: no error", what)
				continue
			}
			got := err.Error() + ": " + features(err)
			if want, ok := said[what]; ok && got != want {
				t.Errorf("%s:\n%s\nin this process:\n%s", what, got, want)
			}
			said[what] = got
		}
		if !errors.Is(all["altered ciphertext"], ErrNotAuthentic) {
			t.Errorf("altered ciphertext: %v", all["altered ciphertext"])
		}
	})
}

// Whatever an error says to those who decide by it, it says on the other side of the wire.
func TestErrorsCrossWithAllThatTheySay(t *testing.T) {
	status := Status{Member: "a", State: Refused, Since: time.Now().UTC().Round(0), Cause: "PIN"}
	for _, err := range []error{
		errors.New("plain"),
		&Error{Op: "C_Sign", Code: pkcs11.CKR_DEVICE_ERROR},
		fmt.Errorf("sign: %w", &unavailable{err: fmt.Errorf("%w: %w", &DownError{status}, &Error{Op: "C_Sign", Code: pkcs11.CKR_SESSION_CLOSED}), after: 2 * time.Second}),
		fmt.Errorf("%w: %w", &KeyError{Name: "tav", Problem: KeyLost}, errBadSignature),
		fmt.Errorf("key x: %w", ErrNotAuthentic),
		&unavailable{err: ErrBusy, after: time.Second},
		errClosed,
		fmt.Errorf("%w: %w", ErrLoginRefused, secret.ErrPINFile),
		&unavailable{err: errLate, after: 0},
	} {
		got := unpackError(packError(err))
		if got.Error() != err.Error() || features(got) != features(err) {
			t.Errorf("%v: %s\ncrosses as %v: %s", err, features(err), got, features(got))
		}
	}
	if err := unpackError([]byte("{")); !errors.Is(err, errMessage) {
		t.Errorf("no JSON: %v", err)
	}
}

// A message crosses as it is; what is none is refused before anything is made of it.
func TestMessages(t *testing.T) {
	sent := message{id: 7, kind: kindCall, op: opHMAC, fields: [][]byte{[]byte("index"), {}, fill(3)}}
	b, err := sent.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := readMessage(bytes.NewReader(b))
	if err != nil || got.id != sent.id || got.kind != sent.kind || got.op != sent.op || !reflect.DeepEqual(got.fields, sent.fields) {
		t.Errorf("%+v, %v", got, err)
	}
	got.wipe()
	if !bytes.Equal(got.fields[2], make([]byte, 32)) {
		t.Error("a message is not overwritten")
	}
	for n := range b {
		if _, err := readMessage(bytes.NewReader(b[:n])); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes of %d: %v", n, len(b), err)
		}
	}
	for name, size := range map[string]uint32{"no room for a header": 9, "more than anybody sends": maxMessage} {
		bad := slices.Clone(b)
		binary.BigEndian.PutUint32(bad, size)
		if _, err := readMessage(bytes.NewReader(bad)); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := slices.Clone(b)
	binary.BigEndian.PutUint32(bad[headerSize:], 1<<31)
	if _, err := readMessage(bytes.NewReader(bad)); !errors.Is(err, errMessage) {
		t.Errorf("a field that is longer than its message: %v", err)
	}
	if _, err := (message{fields: [][]byte{make([]byte, maxMessage)}}).encode(); err == nil {
		t.Error("a message of any size is sent")
	}
}

// Whatever a child that has lost its wits sends, reading it ends.
func FuzzReadMessage(f *testing.F) {
	for _, m := range []message{{kind: kindHello}, {id: 1, kind: kindAnswer, fields: [][]byte{vitals{}.field(), fill(1)}}} {
		b, err := m.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Errorf("%x is read, and written as %x, %v", b, again, err)
		}
	})
}

// A caller whose time is up leaves; the place in the lane is the child's until it has done
// what it was asked for.
func TestCallerLeavesAndThePlaceIsKept(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	calls := shim(t, on)
	wherever(t, on, ringOf(tav), func(t *testing.T, m Member) {
		end := misbehave(t, on, "hold")
		defer end()
		sign := func(ctx context.Context) error {
			return second(m.Sign(ctx, tav.Name, sha("m"), crypto.SHA256))
		}
		before := calls("C_Sign")
		inside, leave := context.WithCancel(context.Background())
		defer leave()
		left := make(chan error, 1)
		go func() { left <- sign(inside) }()
		until(func() bool { return calls("C_Sign") > before })
		leave()
		if err := <-left; !errors.Is(err, errLate) || outcome(err) != "late" {
			t.Errorf("the caller in the token: %v", err)
		}
		queued, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if err := sign(queued); !errors.Is(err, ErrBusy) {
			t.Errorf("the caller in the queue: %v", err)
		}
		end()
		if err := sign(context.Background()); err != nil {
			t.Errorf("after the end of it: %v", err)
		}
		if s := m.Status(); s.State != Ready {
			t.Error(s)
		}
	}, func(c *Config) { c.RSAConcurrency = 1 })
}

// A seal whose caller leaves, or panics, when it is asked for OtherInfo is over all the same:
// its place is free, and its objects are gone.
func TestSealWhoseCallerFailsItIsOver(t *testing.T) {
	on := softhsm.New(t)
	_, _, index := stock(t, on)
	wherever(t, on, ringOf(index), func(t *testing.T, m Member) {
		for name, otherInfo := range map[string]func(leave func()) []byte{
			"it leaves": func(leave func()) []byte { leave(); return []byte("info") },
			"it panics": func(func()) []byte { panic("a fault of the caller's") },
		} {
			ctx, leave := context.WithCancel(context.Background())
			s := appleSealing(t, receiver(t).PublicKey())
			s.OtherInfo = func([]byte) []byte { return otherInfo(leave) }
			func() {
				defer func() { _ = recover() }()
				_, err := m.AgreeAndSeal(ctx, s)
				t.Logf("%s: %v", name, err)
			}()
			leave()
			if err := second(m.HMAC(context.Background(), index.Name, []byte("data"))); err != nil {
				t.Errorf("after a seal of which %s: %v", name, err)
			}
		}
		if n, err := m.SessionObjects(context.Background()); err != nil || n != 0 {
			t.Errorf("%d session objects, %v", n, err)
		}
		if s := m.Stats(); s.EphemeralCreated != s.EphemeralDestroyed {
			t.Errorf("%+v", s)
		}
		if s := m.Status(); s.State != Ready {
			t.Error(s)
		}
	}, func(c *Config) { c.ECConcurrency = 1 })
}

// Restart is one call wherever the module is: the member goes and comes back by itself.
func TestRestartWherever(t *testing.T) {
	on := softhsm.New(t)
	tav, _, _ := stock(t, on)
	wherever(t, on, ringOf(tav), func(t *testing.T, m Member) {
		for range 3 {
			before := m.Status().Since
			m.Restart(errors.New("asked for"))
			until(func() bool { return m.Ready() == nil && m.Status().Since.After(before) })
			if err := second(m.Sign(context.Background(), tav.Name, sha("m"), crypto.SHA256)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What cannot ever work fails the start, wherever it is found out.
func TestStartFailsForWhatIsNoModuleWherever(t *testing.T) {
	on := softhsm.New(t)
	cfg := configFor(on, ringOf())
	cfg.Module, cfg.DataDir = on.PINFile, t.TempDir() // no library
	for _, where := range []Isolation{NoIsolation, ProcessIsolation} {
		needsLinux(t, where)
		cfg.Isolation = where
		if _, err := Start(context.Background(), Failover, []Config{cfg}); err == nil || !strings.Contains(err.Error(), "not a PKCS#11 library") {
			t.Errorf("%s: %v", where, err)
		}
	}
	cfg.Module, cfg.DataDir = on.Module, ""
	if _, err := Start(context.Background(), Failover, []Config{cfg}); err == nil || !strings.Contains(err.Error(), "dataDir is missing") {
		t.Errorf("without a memory of refused PINs: %v", err)
	}
}
