package hsm

import (
	"errors"
	"log/slog"
	"runtime"
	"time"
)

// Config says which token to open, and how.
type Config struct {
	// Name is the member's name: in the keyring's pins, in logs and in metrics.
	Name string
	// Module is the path of the PKCS#11 library.
	Module string
	// TokenLabel and TokenSerial choose the token; at least one is needed. Slot numbers
	// are never used: they change when a token is made anew.
	TokenLabel, TokenSerial string
	// PINFile holds the user PIN. It is read at each login.
	PINFile string
	// Keyring lists the keys that may be used, until Use gives another.
	Keyring *Keyring
	// SignaturesOnly says that the member has no key agreement, so that none is proved:
	// other members seal. (p11-kit 0.24 carries neither ECDH nor GCM to a remote module.)
	SignaturesOnly bool
	// RSAConcurrency and ECConcurrency bound the calls inside the token; 0 means twice
	// the cores for RSA and the cores for EC, which is where SoftHSM stops gaining. TLS
	// handshakes have two places of their own beside these.
	RSAConcurrency, ECConcurrency int
	// CallTimeout is how long a unit of work may stay inside the module before the module
	// is quarantined. Default 10s.
	CallTimeout time.Duration
	// DrainTimeout is how long a quarantined module's calls are awaited before it counts
	// as wedged. Default 5s.
	DrainTimeout time.Duration
	// KeepAlive is how often an idle member is asked for a sign of life and a real
	// signature. Default 60s.
	KeepAlive time.Duration
	// DataDir is where a refused PIN file is remembered; empty for nowhere.
	DataDir string
	// Isolation is how Start runs the member: in this process, or in a child of its own. Open
	// does not look at it.
	Isolation Isolation
	// OnWedged is called when a call does not come back and nothing in this process can
	// make it: the process should end. It must not block. It is never called for a member
	// with a process of its own, which is ended instead.
	OnWedged func(member string) `json:"-"`
	// Observer is told of every call and change of state; nil for nobody.
	Observer Observer `json:"-"`
	// Log receives state changes and findings; nil for slog.Default().
	Log *slog.Logger `json:"-"`

	// expendable says that this process has nothing to do but to run the module, and that
	// what is under way may be lost with it.
	expendable bool
}

// Isolation says where a member's module is loaded.
type Isolation string

// The ways. The zero value is NoIsolation.
const (
	// NoIsolation has the module in this process: a crash inside it is a crash of the
	// process, and so, by choice, is a call that never returns.
	NoIsolation Isolation = "none"
	// ProcessIsolation has the module in a child process of its own, which is ended and
	// started anew for either. Linux only.
	ProcessIsolation Isolation = "process"
)

func (c Config) check() error {
	var wrong []error
	if c.Name == "" {
		wrong = append(wrong, errors.New("name is missing"))
	}
	if c.Module == "" {
		wrong = append(wrong, errors.New("module is missing"))
	}
	if c.TokenLabel == "" && c.TokenSerial == "" {
		wrong = append(wrong, errors.New("tokenLabel and tokenSerial are both missing"))
	}
	if c.PINFile == "" {
		wrong = append(wrong, errors.New("pinFile is missing"))
	}
	if c.Keyring == nil {
		wrong = append(wrong, errors.New("keyring is missing"))
	}
	switch {
	case c.Isolation != "" && c.Isolation != NoIsolation && c.Isolation != ProcessIsolation:
		wrong = append(wrong, errors.New("isolation is neither none nor process"))
	case c.Isolation == ProcessIsolation && c.DataDir == "":
		wrong = append(wrong, errors.New("dataDir is missing: a new child would not know of a PIN that was refused"))
	}
	return errors.Join(wrong...)
}

func (c *Config) defaults() {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	if c.RSAConcurrency == 0 {
		c.RSAConcurrency = 2 * runtime.NumCPU()
	}
	if c.ECConcurrency == 0 {
		c.ECConcurrency = runtime.NumCPU()
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	set(&c.CallTimeout, 10*time.Second)
	set(&c.DrainTimeout, 5*time.Second)
	set(&c.KeepAlive, time.Minute)
}
