package hsm

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// A Member is one token of an HSM, wherever its module is loaded: in this process (*Token),
// or in a child of its own. Both give the same answers and the same errors; each method that
// Token documents is documented there.
//
// A member recovers by itself. Whoever uses it does not retry on the same one: an error with
// a method RetryAfter says that another may do the work.
type Member interface {
	Name() string
	Ready() error
	Status() Status
	Stats() Stats
	// Restart ends what is under way and opens the token anew. It returns at once. In this
	// process that is to drain, finalize and initialize the module, and in a child to kill it
	// and to start another: one call, whatever it takes. Calls under way are answered.
	Restart(cause error)
	Close(ctx context.Context) error

	// Use has the member take up another keyring; Token.Use says what holds when it returns.
	Use(ctx context.Context, ring *Keyring) error
	Inventory(ctx context.Context) (Inventory, error)
	Uses(name string) uint64

	Keys() []KeyStatus
	Active(p Purpose) (Key, error)
	Key(name string) (Key, error)
	Public(name string) (crypto.PublicKey, error)
	Signer(ctx context.Context, name string) (crypto.Signer, error)

	Sign(ctx context.Context, name string, digest []byte, opts crypto.SignerOpts) ([]byte, error)
	AgreeAndSeal(ctx context.Context, s Sealing) (Sealed, error)
	AgreeKey(ctx context.Context, name string, peer *ecdh.PublicKey, otherInfo []byte) ([]byte, error)
	EncryptGCM(ctx context.Context, name string, iv, aad, plaintext []byte) ([]byte, error)
	DecryptGCM(ctx context.Context, name string, iv, aad, ciphertext []byte) ([]byte, error)
	EncryptTDEA(ctx context.Context, name string, plaintext []byte) ([]byte, error)
	HMAC(ctx context.Context, name string, data []byte) ([]byte, error)
	SelfTest(ctx context.Context, name string) error
	Ping(ctx context.Context) error
	Info(ctx context.Context) (Info, error)
	SessionObjects(ctx context.Context) (int, error)

	// launch has the member opened, and kept alive until the context ends.
	launch(alive context.Context, running *sync.WaitGroup)
	// firstTry is closed when the token has been opened, or could not be, once.
	firstTry() <-chan struct{}
	// unfit says after that why the member cannot ever work, if it cannot.
	unfit() error
	remembered(name string) crypto.PublicKey
	// keyring is the one that work is done by at the moment.
	keyring() *Keyring
	drain(ctx context.Context) (release func(), err error)
	callTimeout() time.Duration
}

// newMember makes a member that is not open yet.
func newMember(cfg Config) (Member, error) {
	if cfg.Isolation != ProcessIsolation {
		return newToken(cfg)
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	if runtime.GOOS != "linux" {
		return nil, fmt.Errorf("open token %q: %w", cfg.Name, errNoIsolation)
	}
	cfg.defaults()
	return newIsolated(cfg), nil
}

var errNoIsolation = errors.New("isolation in a process needs Linux, where a child can be told to die with its parent; set it to none")
