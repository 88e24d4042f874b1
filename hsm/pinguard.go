package hsm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/mintmark/mintmark/internal/secret"
)

// pinGuard remembers the PIN files that a token refused, so that no PIN is tried twice:
// not by another member, not after a restart, not by another command. A file is another
// one when its inode or its time of change differs.
//
// It is kept in memory and in a file of the data directory, of no use to an attacker:
// paths and inode numbers. Without a directory it is kept in memory alone. Where the file
// cannot be written nothing logs in: a refusal could not be remembered.
type pinGuard struct{ dir string }

// refusedPIN identifies a PIN file as it was when it was refused.
type refusedPIN struct {
	Path    string    `json:"path"`
	Inode   uint64    `json:"inode"`
	ModTime time.Time `json:"mtime"`
}

// refusedHere are the PIN files that were refused in this process.
var refusedHere struct {
	sync.Mutex
	list []refusedPIN
}

// attempt reads the PIN and gives it to login, unless this very file was refused before.
// A refusal is on disk before attempt returns. Of several that would try one file at
// once, in this process and others, one does, and the others see what became of it.
//
// What it cannot know: the answer to a login during which the process is killed. That file
// is tried once more.
func (g pinGuard) attempt(path string, login func(pin secret.PIN) error) error {
	id, err := identify(path)
	if err != nil {
		return fmt.Errorf("%w: %w", secret.ErrPINFile, err)
	}
	unlock, err := g.lock("refused-pin-" + id.name() + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	refused, err := g.load()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(refused, id.same) {
		return fmt.Errorf("%w before, and %s has not changed since: replace the file with the right PIN", ErrLoginRefused, path)
	}
	pin, err := secret.ReadPINFile(path)
	if err != nil {
		return err
	}
	defer pin.Wipe()
	if now, err := identify(path); err != nil || !now.same(id) {
		return fmt.Errorf("%w: %s is being replaced", secret.ErrPINFile, path)
	}
	if err := g.update(id, false); err != nil { // before the attempt: afterwards may be too late
		return err
	}
	err = login(pin)
	if errors.Is(err, ErrLoginRefused) {
		refusedHere.Lock()
		refusedHere.list = append(refusedHere.list, id)
		refusedHere.Unlock()
		return errors.Join(err, g.update(id, true))
	}
	return err
}

// name is a file name for the PIN file's path.
func (r refusedPIN) name() string {
	sum := sha256.Sum256([]byte(r.Path))
	return hex.EncodeToString(sum[:8])
}

// unchanged reports whether the file is still one that was refused. A file that cannot
// be told is taken for one.
func (g pinGuard) unchanged(path string) bool {
	id, err := identify(path)
	if err != nil {
		return true
	}
	refused, err := g.load()
	return err != nil || slices.ContainsFunc(refused, id.same)
}

func (r refusedPIN) same(other refusedPIN) bool {
	return r.Path == other.Path && r.Inode == other.Inode && r.ModTime.Equal(other.ModTime)
}

func identify(path string) (refusedPIN, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return refusedPIN{}, err
	}
	st, err := os.Stat(abs)
	if err != nil {
		return refusedPIN{}, err
	}
	id := refusedPIN{Path: abs, ModTime: st.ModTime().UTC()}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		id.Inode = sys.Ino
	}
	return id, nil
}

// loginWithin is how long one login may keep the next one with the same PIN file waiting.
const loginWithin = 2 * time.Second

var errLoginBusy = errors.New("another login with this PIN file is under way")

// locksHere are the locks of a guard without a directory, by name.
var locksHere struct {
	sync.Mutex
	byName map[string]chan struct{}
}

// lock keeps others away, of this process and of others with the same directory.
func (g pinGuard) lock(name string) (unlock func(), err error) {
	if g.dir == "" {
		locksHere.Lock()
		if locksHere.byName == nil {
			locksHere.byName = map[string]chan struct{}{}
		}
		l := locksHere.byName[name]
		if l == nil {
			l = make(chan struct{}, 1)
			locksHere.byName[name] = l
		}
		locksHere.Unlock()
		select {
		case l <- struct{}{}:
			return func() { <-l }, nil
		case <-time.After(loginWithin):
			return nil, errLoginBusy
		}
	}
	f, err := os.OpenFile(filepath.Join(g.dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock refused PIN files: %w", err)
	}
	for began := time.Now(); ; {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			// A program that this process is just starting has the descriptor too, until it
			// executes: closing alone would leave the lock with it.
			return func() { _, _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Since(began) > loginWithin {
			return nil, errors.Join(errLoginBusy, err, f.Close())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (g pinGuard) file() string { return filepath.Join(g.dir, "refused-pins.json") }

// load gives what was refused, by this process and on disk.
func (g pinGuard) load() ([]refusedPIN, error) {
	refusedHere.Lock()
	list := slices.Clone(refusedHere.list)
	refusedHere.Unlock()
	kept, err := g.read()
	return append(list, kept...), err
}

// read gives what is on disk.
func (g pinGuard) read() ([]refusedPIN, error) {
	if g.dir == "" {
		return nil, nil
	}
	b, err := os.ReadFile(g.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var kept []refusedPIN
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("read refused PIN files: %w", err)
	}
	return kept, nil
}

// update writes that a file was refused, or that nothing is known of it.
func (g pinGuard) update(id refusedPIN, refused bool) error {
	if g.dir == "" {
		return nil
	}
	unlock, err := g.lock("refused-pins.lock")
	if err != nil {
		return err
	}
	defer unlock()
	list, err := g.read()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(r refusedPIN) bool { return r.Path == id.Path })
	if refused {
		list = append(list, id)
	}
	b, err := json.Marshal(list)
	if err == nil {
		err = replaceFile(g.file(), b)
	}
	if err != nil {
		return fmt.Errorf("remember refused PIN files: %w", err)
	}
	return nil
}
