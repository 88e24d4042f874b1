package hsm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
)

// module is the owner of one PKCS#11 library in this process. C_Initialize and
// C_Finalize concern the whole library, whoever calls them, so that all tokens behind
// one path share one module.
//
// Order matters: crypto11 initializes the library and must do so first
// (CKR_CRYPTOKI_ALREADY_INITIALIZED otherwise); its last Close finalizes it for the
// direct user too. The owner therefore looks for the slot before crypto11 starts,
// finalizes, and from then on only uses what crypto11 initialized.
type module struct {
	path  string
	file  os.FileInfo // which tells two names of one file from two files
	ctx   *pkcs11.Ctx // never initializes or finalizes while a crypto11 context is open
	sized sized       // the same library, called without the binding

	mu   sync.Mutex // guards opening and closing of contexts and the count of them
	open int

	machine *machine
}

// modules are the libraries of this process. The loader takes two names of one file for
// one library, and so must we: a path through a symbolic link is no second module.
var modules struct {
	sync.Mutex
	all []*module
}

// moduleFor gives the one owner of the library at path, loading it at first use. A
// library stays loaded until the process ends: some cannot be loaded twice.
func moduleFor(path string) (*module, error) {
	abs, err := filepath.Abs(path)
	var file os.FileInfo
	if err == nil {
		file, err = os.Stat(abs)
	}
	if err != nil {
		return nil, fmt.Errorf("%w %q: %w", ErrModule, path, err)
	}
	modules.Lock()
	defer modules.Unlock()
	for _, m := range modules.all {
		if os.SameFile(m.file, file) {
			return m, nil
		}
	}
	ctx := pkcs11.New(abs)
	if ctx == nil {
		return nil, fmt.Errorf("%w %q: not a PKCS#11 library, or a library it needs is missing (ldd shows which)", ErrModule, abs)
	}
	direct, err := sizedFor(abs)
	if err != nil {
		ctx.Destroy()
		return nil, fmt.Errorf("%w %q: %w", ErrModule, abs, err)
	}
	m := &module{path: abs, file: file, ctx: ctx, sized: direct}
	m.machine = newMachine(m)
	modules.all = append(modules.all, m)
	return m, nil
}

// login is what crypto11 needs to open a token.
type login struct {
	label, serial string
	pin           string
	pool          int           // how many sessions crypto11 operates in
	poolWait      time.Duration // how long it waits for one
}

// connect finds the token, lets crypto11 initialize the module and log in, and
// returns its context with the slot.
func (m *module) connect(l login) (*crypto11.Context, uint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	slot, err := m.findSlot(l.label, l.serial)
	if err != nil {
		return nil, 0, err
	}
	number := int(slot)
	config := &crypto11.Config{
		Path:            m.path,
		SlotNumber:      &number,
		Pin:             l.pin,
		MaxSessions:     l.pool + 1, // and one that keeps the login
		PoolWaitTimeout: l.poolWait,
		GCMIVLength:     12,
	}
	c11, err := crypto11.Configure(config)
	config.Pin = "" // which crypto11 would keep for as long as it is open
	if err != nil {
		err = ckr("open token", err)
		if classify(err) == ClassPIN {
			return nil, 0, fmt.Errorf("%w: %w", ErrLoginRefused, err)
		}
		return nil, 0, err
	}
	m.open++
	return c11, slot, nil
}

// disconnect closes a context; the last one finalizes the module. No call may be in
// flight: C_Finalize under a running call takes the process down.
func (m *module) disconnect(c11 *crypto11.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open--
	return c11.Close()
}

// findSlot gives the slot of the one present token that has the label and the serial
// number; an empty one matches all.
func (m *module) findSlot(label, serial string) (uint, error) {
	if m.open == 0 {
		if err := m.initialize(); err != nil {
			return 0, ckr("C_Initialize", err)
		}
		defer func() { _ = m.ctx.Finalize() }()
	}
	slots, err := m.ctx.GetSlotList(true)
	if err != nil {
		return 0, ckr("C_GetSlotList", err)
	}
	var found []uint
	for _, s := range slots {
		// A slot that does not answer is somebody else's trouble, unless it is ours:
		// then nothing is found below.
		info, err := m.ctx.GetTokenInfo(s)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			continue
		}
		if (label == "" || info.Label == label) && (serial == "" || info.SerialNumber == serial) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return 0, fmt.Errorf("%w: no token with label %q and serial %q behind %s (of %d present)", ErrTokenNotFound, label, serial, m.path, len(slots))
	default:
		return 0, fmt.Errorf("%w: %d tokens have label %q and serial %q; set tokenSerial to tell them apart", ErrTokenNotFound, len(found), label, serial)
	}
}

// initialize initializes the module, finalizing it first if it still is: crypto11 drops
// C_Finalize's error, and a lost device may have refused it.
func (m *module) initialize() error {
	err := m.ctx.Initialize()
	var rv pkcs11.Error
	if !errors.As(err, &rv) || rv != pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED {
		return err
	}
	if err := m.ctx.Finalize(); err != nil {
		return err
	}
	return m.ctx.Initialize()
}
