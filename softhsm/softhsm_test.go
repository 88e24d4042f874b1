package softhsm_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/softhsm"
)

// open initialises the module under the configuration in force, logs in to the
// token and finalizes the module when the test ends.
func open(t *testing.T, token *softhsm.Token) (*pkcs11.Ctx, pkcs11.SessionHandle) {
	t.Helper()
	module := pkcs11.New(token.Module)
	if module == nil {
		t.Fatalf("cannot load %s", token.Module)
	}
	if err := module.Initialize(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := module.Finalize(); err != nil {
			t.Error(err)
		}
		module.Destroy()
	})
	session, err := module.OpenSession(slot(t, module, token), pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := module.Login(session, pkcs11.CKU_USER, token.PIN()); err != nil {
		t.Fatal(err)
	}
	return module, session
}

// slot finds the token by serial number, and checks its label.
func slot(t *testing.T, module *pkcs11.Ctx, token *softhsm.Token) uint {
	t.Helper()
	slots, err := module.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		info, err := module.GetTokenInfo(s)
		if err == nil && info.SerialNumber == token.Serial {
			if info.Label != token.Label {
				t.Errorf("token %s has label %q, want %q", token.Serial, info.Label, token.Label)
			}
			return s
		}
	}
	t.Fatalf("no slot holds %v", token)
	return 0
}

func makeAESKey(t *testing.T, module *pkcs11.Ctx, session pkcs11.SessionHandle) {
	t.Helper()
	_, err := module.GenerateKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)},
		[]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, "kept"),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32),
		})
	if err != nil {
		t.Fatal(err)
	}
}

func countKeys(t *testing.T, module *pkcs11.Ctx, session pkcs11.SessionHandle) int {
	t.Helper()
	if err := module.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, "kept")}); err != nil {
		t.Fatal(err)
	}
	found, _, err := module.FindObjects(session, 10)
	if err := errors.Join(err, module.FindObjectsFinal(session)); err != nil {
		t.Fatal(err)
	}
	return len(found)
}

// files returns every path under dir with its content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestNewTokenTakesLoginAndKeys(t *testing.T) {
	token := softhsm.New(t)
	module, session := open(t, token)
	makeAESKey(t, module, session)
	if got := countKeys(t, module, session); got != 1 {
		t.Errorf("%d keys, want 1", got)
	}
}

func TestNewGivesEachTestItsOwnToken(t *testing.T) {
	var dirs, serials []string
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			token := softhsm.New(t)
			module, session := open(t, token)
			if got := countKeys(t, module, session); got != 0 {
				t.Errorf("a new token holds %d keys", got)
			}
			makeAESKey(t, module, session)
			dirs, serials = append(dirs, token.Dir), append(serials, token.Serial)
		})
	}
	if serials[0] == serials[1] {
		t.Errorf("both tests had token %s", serials[0])
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left after its test: %v", dir, err)
		}
	}
}

// A token that was made from the image of another has its keys and its PIN, in files of its own.
func TestNewFromBeginsWithTheKeysOfTheOther(t *testing.T) {
	var image softhsm.Image
	t.Run("other", func(t *testing.T) {
		token := softhsm.New(t)
		module, session := open(t, token)
		makeAESKey(t, module, session)
		var err error
		if image, err = token.Image(); err != nil {
			t.Fatal(err)
		}
	})
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			module, session := open(t, softhsm.NewFrom(t, image))
			if got := countKeys(t, module, session); got != 1 {
				t.Errorf("it holds %d keys", got)
			}
			makeAESKey(t, module, session)
		})
	}
}

func TestCreateIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "token")
	token, err := softhsm.Create(dir, "private")
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]fs.FileMode{
		dir:                          fs.ModeDir | 0o700,
		filepath.Join(dir, "tokens"): fs.ModeDir | 0o700,
		token.ConfigFile:             0o600,
		token.PINFile:                0o600,
		token.SOPINFile:              0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
	pin, _ := os.ReadFile(token.PINFile)
	soPIN, _ := os.ReadFile(token.SOPINFile)
	if string(pin) != token.PIN() || len(pin) < 20 || string(soPIN) == string(pin) {
		t.Error("the PIN files do not hold two long PINs, the user's as PIN returns it")
	}
	if printed := fmt.Sprintf("%v %+v %s", token, token, token); strings.Contains(printed, token.PIN()) {
		t.Errorf("a printed Token shows its PIN: %s", printed)
	}
}

func TestCreateAgainChangesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "foreign"), []byte("not ours"), 0o600); err != nil {
		t.Fatal(err)
	}
	first, err := softhsm.Create(dir, "kept")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", "") // restored after the test, whatever Setenv below does
	if err := first.Setenv(); err != nil {
		t.Fatal(err)
	}
	t.Run("use", func(t *testing.T) {
		module, session := open(t, first)
		makeAESKey(t, module, session)
	})
	before := files(t, dir)

	second, err := softhsm.Create(dir, "kept")
	if err != nil {
		t.Fatal(err)
	}
	if *second != *first {
		t.Errorf("Create again returned %+v, want %+v", *second, *first)
	}
	after := files(t, dir)
	if len(after) != len(before) {
		t.Errorf("%d files before, %d after", len(before), len(after))
	}
	for path, text := range before {
		if after[path] != text {
			t.Errorf("%s changed", path)
		}
	}
	module, session := open(t, second)
	if got := countKeys(t, module, session); got != 1 {
		t.Errorf("%d keys after Create again, want 1", got)
	}
}

// TestCreateCompletes removes what a crash may have left undone.
func TestCreateCompletes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(dir string) error
	}{
		{"nothing but an empty directory", func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
		}},
		{"configuration written, no PINs, no token", func(dir string) error {
			return errors.Join(os.Remove(dir+"/pin"), os.Remove(dir+"/so-pin"), os.RemoveAll(dir+"/tokens"))
		}},
		{"one PIN written", func(dir string) error {
			return errors.Join(os.Remove(dir+"/pin"), os.RemoveAll(dir+"/tokens"))
		}},
		{"token half made", func(dir string) error {
			scratch := dir + "/.softhsm-making-123"
			return errors.Join(os.Mkdir(scratch, 0o700), os.Rename(dir+"/tokens", scratch+"/tokens"))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := softhsm.Create(dir, "crash"); err != nil {
				t.Fatal(err)
			}
			if err := tc.damage(dir); err != nil {
				t.Fatal(err)
			}
			token, err := softhsm.Create(dir, "crash")
			if err != nil {
				t.Fatal(err)
			}
			if left, _ := filepath.Glob(dir + "/.softhsm-making-*"); left != nil {
				t.Errorf("left behind: %v", left)
			}
			t.Setenv("SOFTHSM2_CONF", token.ConfigFile)
			open(t, token)
		})
	}
}

func TestCreateRefuses(t *testing.T) {
	made := func(t *testing.T) string {
		dir := t.TempDir()
		if _, err := softhsm.Create(dir, "mine"); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, tc := range []struct {
		name, label string
		dir         func(t *testing.T) string
		want        string
	}{
		{"a directory with another token", "yours", made, `it holds token "mine", not "yours"`},
		{"a directory that was moved", "mine", func(t *testing.T) string {
			moved := filepath.Join(t.TempDir(), "moved")
			if err := os.Rename(made(t), moved); err != nil {
				t.Fatal(err)
			}
			return moved
		}, "not made here, or moved since"},
		{"somebody else's configuration", "mine", func(t *testing.T) string {
			dir := t.TempDir()
			text := "directories.tokendir = /var/lib/softhsm/tokens/\n"
			if err := os.WriteFile(filepath.Join(dir, "softhsm2.conf"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "/var/lib/softhsm/tokens"},
		{"a token whose PIN is lost", "mine", func(t *testing.T) string {
			dir := made(t)
			if err := os.Remove(filepath.Join(dir, "pin")); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "a PIN of the token is not available"},
		{"a file in the directory's place", "mine", func(t *testing.T) string {
			file := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return file
		}, "not a directory"},
		{"a path that a configuration cannot hold", "mine", func(t *testing.T) string {
			return filepath.Join(t.TempDir(), "#1")
		}, "cannot hold a path with #"},
		{"no label", "", (*testing.T).TempDir, "1 to 32 characters"},
		{"a label too long", strings.Repeat("x", 33), (*testing.T).TempDir, "1 to 32 characters"},
		{"a label with a line break", "a\nb", (*testing.T).TempDir, "printable ASCII"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := tc.dir(t)
			token, err := softhsm.Create(dir, tc.label)
			if err == nil {
				t.Fatalf("Create made %v", token)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not say %q", err, tc.want)
			}
		})
	}
}

func TestCreateWaitsForCreate(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	tokens := make([]*softhsm.Token, 4)
	for i := range tokens {
		wg.Go(func() {
			var err error
			if tokens[i], err = softhsm.Create(dir, "shared"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for _, token := range tokens {
		if *token != *tokens[0] {
			t.Errorf("got %v and %v in one directory", token, tokens[0])
		}
	}
}

func TestAddPutsATokenBeside(t *testing.T) {
	first := softhsm.New(t)
	second, err := first.Add("beside")
	if err != nil {
		t.Fatal(err)
	}
	again, err := first.Add("beside")
	if err != nil {
		t.Fatal(err)
	}
	if *again != *second {
		t.Errorf("Add again returned %v, want %v", again, second)
	}
	module, _ := open(t, first)
	session, err := module.OpenSession(slot(t, module, second), pkcs11.CKF_SERIAL_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	if err := module.Login(session, pkcs11.CKU_USER, second.PIN()); err != nil {
		t.Error(err)
	}
}

// TestCreateLeavesAnOpenModuleAlone makes a token while this process uses another.
func TestCreateLeavesAnOpenModuleAlone(t *testing.T) {
	module, session := open(t, softhsm.New(t))
	if _, err := softhsm.Create(t.TempDir(), "elsewhere"); err != nil {
		t.Fatal(err)
	}
	makeAESKey(t, module, session)
}

func TestFindObeysTheEnvironment(t *testing.T) {
	t.Setenv("SOFTHSM2_MODULE", "/nowhere/libsofthsm2.so")
	_, err := softhsm.Find()
	if !errors.Is(err, softhsm.ErrNotInstalled) || !strings.Contains(err.Error(), "/nowhere/libsofthsm2.so") {
		t.Errorf("error %v does not name the missing file", err)
	}
	if _, err := softhsm.Create(t.TempDir(), "none"); !errors.Is(err, softhsm.ErrNotInstalled) {
		t.Errorf("Create: %v, want ErrNotInstalled", err)
	}
	t.Setenv("SOFTHSM2_MODULE", "")
	found, err := softhsm.Find()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_MODULE", found)
	if again, err := softhsm.Find(); err != nil || again != found {
		t.Errorf("Find = %q, %v, want %q", again, err, found)
	}
}

// A development server keeps a token in its data directory and logs in to it. The
// second start finds the token of the first.
func Example() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	for range 2 {
		token, err := softhsm.Create(filepath.Join(dir, "token"), "dev")
		if err != nil {
			panic(err)
		}
		if err := token.Setenv(); err != nil {
			panic(err)
		}
		module := pkcs11.New(token.Module)
		if err := module.Initialize(); err != nil {
			panic(err)
		}
		slots, err := module.GetSlotList(true)
		if err != nil {
			panic(err)
		}
		for _, slot := range slots {
			info, err := module.GetTokenInfo(slot)
			if err != nil || info.SerialNumber != token.Serial {
				continue
			}
			session, err := module.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
			if err != nil {
				panic(err)
			}
			if err := module.Login(session, pkcs11.CKU_USER, token.PIN()); err != nil {
				panic(err)
			}
			fmt.Println("logged in to", info.Label)
		}
		if err := module.Finalize(); err != nil {
			panic(err)
		}
		module.Destroy()
	}
	// Output:
	// logged in to dev
	// logged in to dev
}
