package integration

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// madeOnce are files of a data directory, by path, that the first start made: its keys, in the
// token and out of it, and what certifies them. Further starts in empty directories begin with
// them, since making keys takes longer than most tests do.
var madeOnce struct {
	mu    sync.Mutex // guards files
	files map[string][]byte
}

// giveKeys writes the files made once into a directory without any.
func giveKeys(t *testing.T, dir string) {
	t.Helper()
	if entries, err := os.ReadDir(dir); len(entries) != 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	madeOnce.mu.Lock()
	defer madeOnce.mu.Unlock()
	for path, content := range madeOnce.files {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// keepKeys keeps them, of the first directory there is.
func keepKeys(t *testing.T, dir string) {
	t.Helper()
	madeOnce.mu.Lock()
	defer madeOnce.mu.Unlock()
	if madeOnce.files != nil {
		return
	}
	madeOnce.files = map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, e fs.DirEntry, err error) error {
		top, _, _ := strings.Cut(path, "/")
		switch {
		case err != nil || e.IsDir() || path == "softhsm/softhsm2.conf": // which speaks of the directory
			return err
		case !slices.Contains([]string{".mintmark-dev", "apple", "clients", "keys", "keyring.yaml", "merchant-jwt.crt", "pass-root.pem", "pass.crt", "softhsm"}, top):
			return nil
		}
		madeOnce.files[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
