package softhsm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// An Image is the files of a token, its keys and PINs among them. Tests make keys once, and
// each begins with the same.
type Image map[string][]byte // by path below Token.Dir

// Image reads the token's files. The module must not be initialised.
func (t *Token) Image() (Image, error) {
	image := Image{}
	err := fs.WalkDir(os.DirFS(t.Dir), ".", func(path string, e fs.DirEntry, err error) error {
		// The configuration speaks of this directory.
		if err != nil || e.IsDir() || path == configName {
			return err
		}
		image[path], err = os.ReadFile(filepath.Join(t.Dir, path))
		return err
	})
	return image, err
}

func (i Image) write(dir string) error {
	var errs []error
	for path, content := range i {
		path = filepath.Join(dir, path)
		errs = append(errs, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600))
	}
	return errors.Join(errs...)
}

// NewFrom is New, of a token with what is in the image of another that New made.
func NewFrom(t TB, image Image) *Token {
	t.Helper()
	dir := scratchDir(t)
	if err := image.write(dir); err != nil {
		t.Fatal(err)
	}
	return newIn(t, dir)
}
