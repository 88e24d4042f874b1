package hsm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/softhsm"
)

func TestTokenOpensAgainAfterClose(t *testing.T) {
	on := softhsm.New(t)
	for i := range 3 {
		tok := open(t, on, ringOf())
		if err := tok.Ping(context.Background()); err != nil {
			t.Fatalf("opening %d: %v", i, err)
		}
		shut(t, tok)
	}
}

func TestTwoTokensShareOneModuleAndCloseApart(t *testing.T) {
	on := softhsm.New(t)
	second, err := on.Add("second")
	if err != nil {
		t.Fatal(err)
	}
	a, b := open(t, on, ringOf()), open(t, second, ringOf())
	shut(t, a) // must not finalize the module under b
	if err := b.Ping(context.Background()); err != nil {
		t.Fatal(err)
	}
	again := open(t, on, ringOf()) // while b has the module initialized
	for _, tok := range []*Token{again, b} {
		info, err := tok.Info(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		want := on
		if tok == b {
			want = second
		}
		if info.Label != want.Label || info.Serial != want.Serial {
			t.Errorf("token is %s (%s), want %v", info.Label, info.Serial, want)
		}
	}
}

func TestOneTokenIsMeantOrNone(t *testing.T) {
	on := softhsm.New(t)
	twin, err := on.Add("twin")
	if err != nil {
		t.Fatal(err)
	}
	other, err := on.Add("other")
	if err != nil {
		t.Fatal(err)
	}
	relabel(t, on, other, twin.Label)
	for _, tc := range []struct {
		name, label, serial string
		want                error
	}{
		{"by label", on.Label, "", nil},
		{"by serial", "", on.Serial, nil},
		{"by both", on.Label, on.Serial, nil},
		{"a label that two tokens have", twin.Label, "", ErrTokenNotFound},
		{"told apart by serial", twin.Label, twin.Serial, nil},
		{"no such label", "nobody", "", ErrTokenNotFound},
		{"no such serial", "", "0000000000000000", ErrTokenNotFound},
		{"label and serial of different tokens", on.Label, twin.Serial, ErrTokenNotFound},
		{"the beginning of a label", on.Label[:4], "", ErrTokenNotFound},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := configFor(on, ringOf())
			cfg.TokenLabel, cfg.TokenSerial = tc.label, tc.serial
			tok, err := Open(context.Background(), cfg)
			if !errors.Is(err, tc.want) {
				t.Fatalf("error is %v, want %v", err, tc.want)
			}
			if err == nil {
				shut(t, tok)
			}
		})
	}
}

// relabel gives a token another's label, in SoftHSM's own file: the module refuses to
// help, and in the world it happens when a token is made anew beside the old one.
// The label is stored padded to 32 bytes.
func relabel(t *testing.T, in, tok *softhsm.Token, label string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(in.Dir, "tokens", "*", "token.object"))
	if err != nil {
		t.Fatal(err)
	}
	pad := func(s string) string { return s + strings.Repeat(" ", 32-len(s)) }
	changed := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if after := strings.Replace(string(b), pad(tok.Label), pad(label), 1); after != string(b) {
			changed++
			if err := os.WriteFile(f, []byte(after), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if changed != 1 {
		t.Fatalf("relabelled %d tokens, want 1", changed)
	}
}

// A wrong PIN is tried once and never again: most tokens lock after a few.
func TestWrongPINIsTriedOnce(t *testing.T) {
	on := softhsm.New(t)
	calls := shim(t, on)
	wrong := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(wrong, []byte("not-the-PIN"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := configFor(on, ringOf())
	cfg.PINFile = wrong
	_, err := Open(context.Background(), cfg)
	if !errors.Is(err, ErrLoginRefused) {
		t.Fatalf("error is %v, want ErrLoginRefused", err)
	}
	var e *Error
	if !errors.As(err, &e) || e.Class() != ClassPIN {
		t.Fatalf("error %v has no *Error of class pin", err)
	}
	if _, ok := retryAfter(err); ok {
		t.Error("the error invites to try again")
	}
	if strings.Contains(err.Error(), "not-the-PIN") {
		t.Error("the error shows the PIN")
	}
	if n := calls("C_Login"); n != 1 {
		t.Errorf("%d attempts to log in, want 1", n)
	}

	cfg.PINFile = on.PINFile // mended by the operator
	tok, err := Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	shut(t, tok)
}

// The PIN is read at each login, so that it can be changed under a running service.
func TestPINFileThatOthersCanReadIsRefusedBeforeLogin(t *testing.T) {
	on := softhsm.New(t)
	calls := shim(t, on)
	for _, mode := range []os.FileMode{0o604, 0o640, 0o644, 0o620} {
		if err := os.Chmod(on.PINFile, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), configFor(on, ringOf())); !errors.Is(err, secret.ErrPINFile) {
			t.Errorf("mode %o: error is %v, want ErrPINFile", mode, err)
		}
	}
	if n := calls("C_Login"); n != 0 {
		t.Errorf("%d attempts to log in, want none", n)
	}
	if err := os.Chmod(on.PINFile, 0o400); err != nil {
		t.Fatal(err)
	}
	open(t, on, ringOf())
}

func TestConfigurationErrorsComeAllAtOnce(t *testing.T) {
	_, err := Open(context.Background(), Config{})
	for _, want := range []string{"name", "module", "tokenLabel", "pinFile", "keyring"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestFileThatIsNoModuleIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(file, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, module := range []string{file, file + ".missing"} {
		_, err := Open(context.Background(), Config{Name: member, Module: module, TokenLabel: "x", PINFile: "x", Keyring: ringOf()})
		if err == nil || !strings.Contains(err.Error(), module) {
			t.Errorf("error is %v, want one that names %s", err, module)
		}
	}
}

// What cannot be opened leaves the module as it was: the next opening serves.
func TestOpenThatEndsEarlyLeavesTheModuleUsable(t *testing.T) {
	on := softhsm.New(t)
	if _, err := Open(expired(), configFor(on, ringOf())); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, want the context's", err)
	}
	open(t, on, ringOf())
}
