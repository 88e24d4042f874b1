package softhsm

import "os"

// TB is the part of [testing.TB] that [New] uses. It is an interface of our own so
// that a program which creates development tokens does not link package testing.
type TB interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
	Setenv(key, value string)
	TempDir() string
}

// testLabel is the label of the tokens that New makes.
const testLabel = "softhsm-test"

// memoryDir is a file system in memory on Linux. Tokens there make keys ten times
// faster, as SoftHSM writes a key in many small synced steps.
const memoryDir = "/dev/shm"

// New makes a token for one test, points SOFTHSM2_CONF at it and removes it when
// the test ends. It fails the test if SoftHSM is missing, and never skips: a test
// suite that quietly tests nothing is worse than one that says what to install.
//
// SoftHSM has one state and one configuration per process, so New is for tests
// that run one after the other; it panics in a test marked t.Parallel, as
// t.Setenv does. The module must not be initialised when New is called: a test
// that initialised it, also one before this, must have finalized it.
func New(t TB) *Token {
	t.Helper()
	return newIn(t, scratchDir(t))
}

func newIn(t TB, dir string) *Token {
	t.Helper()
	token, err := Create(dir, testLabel)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(configEnv, token.ConfigFile)
	return token
}

// scratchDir returns a directory that goes away with the test, in memory if the
// machine has such a place that we may write to.
func scratchDir(t TB) string {
	dir, err := os.MkdirTemp(memoryDir, "softhsm-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("softhsm: remove the test's token: %v", err)
		}
	})
	return dir
}
