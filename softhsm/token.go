package softhsm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	configName = "softhsm2.conf"
	pinName    = "pin"
	soPINName  = "so-pin"
	tokensName = "tokens"

	// makingPrefix marks what is not whole yet. Only a crash leaves one behind.
	makingPrefix = ".softhsm-making-"
)

// Token is a SoftHSM token that has a label and both PINs, and the files it is
// made of. Its fields are absolute paths and do not change.
type Token struct {
	// Module is the PKCS#11 library to load.
	Module string
	// Dir is the directory that holds everything below.
	Dir string
	// ConfigFile is what SOFTHSM2_CONF must name when Module is initialised.
	ConfigFile string
	// PINFile holds the PIN of CKU_USER, without a newline.
	PINFile string
	// SOPINFile holds the PIN of CKU_SO, without a newline.
	SOPINFile string
	// Label is CK_TOKEN_INFO.label without its padding.
	Label string
	// Serial is CK_TOKEN_INFO.serialNumber. Choose the slot by it: SoftHSM derives
	// slot numbers from serial numbers, and a token that is made again has others.
	Serial string

	pin string
}

// PIN returns the user's PIN.
func (t *Token) PIN() string { return t.pin }

// String names the token without its PIN, so that a Token printed by a test's log
// shows nothing else.
func (t *Token) String() string {
	return fmt.Sprintf("SoftHSM token %q (serial %s) in %s", t.Label, t.Serial, t.Dir)
}

// Env returns the variables a child process needs to see this token, to append to
// an [os/exec.Cmd]'s Env.
func (t *Token) Env() []string { return []string{configEnv + "=" + t.ConfigFile} }

// Setenv points SoftHSM at this token's configuration by setting SOFTHSM2_CONF.
// The variable is the whole process's, and so is the choice: SoftHSM reads it in
// C_Initialize and stays with it until C_Finalize. Call Setenv before the module
// is initialised and not while another goroutine may be initialising it.
func (t *Token) Setenv() error { return os.Setenv(configEnv, t.ConfigFile) }

// Create makes a token with this label in dir, which is made if it is not there,
// and initialises it with random PINs. If dir holds the token already, Create
// returns it and changes nothing; what an earlier Create left unfinished it
// completes. It is an error if dir holds tokens but none with this label, or a
// softhsm2.conf that speaks of another directory.
//
// Nothing outside dir is touched, and the module is not loaded into this process.
// A label has 1 to 32 printable ASCII characters and no blank at either end.
func Create(dir, label string) (*Token, error) {
	return makeToken(dir, label, func(have []slotToken) error {
		if len(have) > 0 {
			return fmt.Errorf("it holds token %q, not %q", have[0].label, label)
		}
		return nil
	})
}

// Add puts another token beside t: in the same directory, under the same
// configuration and with the same PINs, so that one process can use both at once.
// If it is there already, Add returns it and changes nothing. A module that is
// initialised shows the new token after its next C_Initialize.
func (t *Token) Add(label string) (*Token, error) {
	return makeToken(t.Dir, label, func([]slotToken) error { return nil })
}

// makeToken is Create and Add; mayAdd says whether a token may join those that are
// there. The steps, and what a crash after each leaves:
//
//  1. lock the directory; the kernel frees it with the process
//  2. the configuration: complete or absent, since it is renamed into place
//  3. the PINs, each likewise: used by the next run, as there is no token yet
//  4. initialise the token in a scratch directory: swept by the next run
//  5. rename the token into tokens/: this is the point where it exists
func makeToken(dir, label string, mayAdd func(have []slotToken) error) (*Token, error) {
	t, err := describe(dir, label)
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	if err := t.open(mayAdd); err != nil {
		return nil, fmt.Errorf("softhsm: token %q in %s: %w", label, t.Dir, err)
	}
	return t, nil
}

// describe names the parts of a token and makes sure of its surroundings.
func describe(dir, label string) (*Token, error) {
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	// SoftHSM's configuration has one setting a line and takes # for a comment.
	if strings.ContainsAny(abs, "#\r\n") {
		return nil, fmt.Errorf("directory %q: SoftHSM's configuration cannot hold a path with # or a line break", abs)
	}
	module, err := Find()
	if err != nil {
		return nil, err
	}
	return &Token{
		Module:     module,
		Dir:        abs,
		ConfigFile: filepath.Join(abs, configName),
		PINFile:    filepath.Join(abs, pinName),
		SOPINFile:  filepath.Join(abs, soPINName),
		Label:      label,
	}, nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > 32 || strings.TrimSpace(label) != label {
		return fmt.Errorf("label %q: must have 1 to 32 characters and no blank at either end", label)
	}
	for _, r := range label {
		if r < ' ' || r > '~' {
			return fmt.Errorf("label %q: must be printable ASCII", label)
		}
	}
	return nil
}

// open does makeToken's steps.
func (t *Token) open(mayAdd func(have []slotToken) error) error {
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return err
	}
	unlock, err := lock(t.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := sweep(t.Dir); err != nil {
		return err
	}

	if err := t.ensureConfig(); err != nil {
		return err
	}
	have, err := t.list()
	if err != nil {
		return err
	}
	soPIN, err := t.ensurePINs(len(have) > 0)
	if err != nil {
		return err
	}
	if t.adopt(have) {
		return nil
	}
	if err := mayAdd(have); err != nil {
		return err
	}
	if err := t.initialise(soPIN); err != nil {
		return err
	}
	if have, err = t.list(); err != nil {
		return err
	}
	if !t.adopt(have) {
		return errors.New("softhsm2-util initialised it, but it is not among the slots")
	}
	return nil
}

// adopt takes over what the module says of this token, if it is there.
func (t *Token) adopt(have []slotToken) bool {
	for _, h := range have {
		if h.label == t.Label {
			t.Serial = h.serial
			return true
		}
	}
	return false
}

// config is the text of a SoftHSM configuration with its tokens in dir.
func config(dir string) string {
	return "# Made by package softhsm for a throw-away token; not for production.\n" +
		"log.level = ERROR\n" +
		"directories.tokendir = " + dir + "\n" +
		"objectstore.backend = file\n" +
		"slots.removable = false\n"
}

// ensureConfig writes the configuration and the token directory if they are not
// there. A configuration may have been edited (log.level, mechanisms), so only the
// directory in it is compared.
func (t *Token) ensureConfig() error {
	tokens := filepath.Join(t.Dir, tokensName)
	text, err := os.ReadFile(t.ConfigFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := writeFile(t.ConfigFile, config(tokens)); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if got := tokenDir(string(text)); filepath.Clean(got) != tokens {
			return fmt.Errorf("its %s keeps tokens in %q: not made here, or moved since; remove the directory or use another", configName, got)
		}
	}
	if err := os.Mkdir(tokens, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// tokenDir returns directories.tokendir of a configuration.
func tokenDir(text string) string {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		key, value, _ := strings.Cut(line, "=")
		if strings.TrimSpace(key) == "directories.tokendir" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// ensurePINs reads both PINs, or makes those that are missing as long as no token
// depends on them.
func (t *Token) ensurePINs(tokenExists bool) (soPIN string, err error) {
	for _, f := range []struct {
		path string
		to   *string
	}{{t.SOPINFile, &soPIN}, {t.PINFile, &t.pin}} {
		pin, err := os.ReadFile(f.path)
		if errors.Is(err, fs.ErrNotExist) && !tokenExists {
			pin = []byte(rand.Text()) // 26 characters of A-Z, 2-7: 130 bits
			err = writeFile(f.path, string(pin))
		}
		if err != nil {
			return "", fmt.Errorf("a PIN of the token is not available: %w", err)
		}
		if len(pin) < 4 || len(pin) > 255 {
			return "", fmt.Errorf("%s does not hold a PIN of 4 to 255 characters", f.path)
		}
		*f.to = string(pin)
	}
	return soPIN, nil
}

// initialise makes the token in a scratch directory and renames it into place, so
// that tokens/ never holds one that lacks its PIN. SoftHSM keeps each token in a
// directory of its own, named by a UUID, with no path written inside.
func (t *Token) initialise(soPIN string) error {
	scratch, err := os.MkdirTemp(t.Dir, makingPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	conf := filepath.Join(scratch, configName)
	made := filepath.Join(scratch, tokensName)
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	if err := writeFile(conf, config(made)); err != nil {
		return err
	}
	if err := initToken(t.Module, conf, t.Label, soPIN, t.pin); err != nil {
		return err
	}
	entries, err := os.ReadDir(made)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("softhsm2-util left %d tokens where one was asked for", len(entries))
	}
	name := entries[0].Name()
	return os.Rename(filepath.Join(made, name), filepath.Join(t.Dir, tokensName, name))
}

// list returns the tokens that the module shows under this configuration.
func (t *Token) list() ([]slotToken, error) { return listTokens(t.Module, t.ConfigFile) }

// lock makes this caller the only one that makes tokens in dir until unlock. The
// lock is on the directory itself, so it leaves no file behind.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = d.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return func() { _ = d.Close() }, nil
}

// sweep removes what a crash left unfinished. The caller holds the lock, so nobody
// is working on it.
func sweep(dir string) error {
	left, err := filepath.Glob(filepath.Join(escapeGlob(dir), makingPrefix+"*"))
	if err != nil {
		return err
	}
	for _, l := range left {
		if err := os.RemoveAll(l); err != nil {
			return err
		}
	}
	return nil
}

// escapeGlob makes a path its own pattern: test directories are named after tests.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// writeFile writes a file of mode 0600 that is either whole or not there.
func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), makingPrefix) // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
