package passkit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ErrFolder is wrapped by the error for a folder that is not a pass's.
var ErrFolder = errors.New("not the folder of a pass")

// ReadFolder reads the source of a pass, a folder like card.pass, into a bundle. Hidden
// files are left out, and so are a manifest and a signature at the top, which are made
// anew. Links and other special files are refused, and so is what Open refuses in an
// archive.
func ReadFolder(dir string) (*Bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("read pass folder: %w", err)
	}
	defer func() { _ = root.Close() }() // nothing was written
	b := &Bundle{Files: map[string][]byte{}}
	names, total := newNameSet(), int64(0)
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case strings.HasPrefix(path.Base(name), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		case e.IsDir(), name == FileManifest, name == FileSignature:
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%w: %s is a link or another special file", ErrFolder, name)
		case len(b.Files) == passLimits.entries:
			return fmt.Errorf("%w: more than %d files", ErrFolder, passLimits.entries)
		}
		if err := names.add(name); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrFolder, name, err)
		}
		content, err := readFile(root, name, min(passLimits.file, passLimits.total-total))
		if err != nil {
			return err
		}
		total += int64(len(content))
		b.Files[name] = content
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read pass folder: %w", err)
	}
	return b, nil
}

func readFile(root *os.Root, name string, most int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	content, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(content)) > most {
		err = fmt.Errorf("%w: %s is too large, or all files together", ErrFolder, name)
	}
	return content, err
}

// WriteFolder writes the bundle's files under dir, which it makes if need be. Files
// that are there are not replaced: the error wraps fs.ErrExist. What was written before
// an error stays.
func (b *Bundle) WriteFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write pass folder: %w", err)
	}
	names := newNameSet()
	for _, name := range b.sortedNames() {
		if err := names.add(name); err != nil {
			return fmt.Errorf("write pass folder: %w", err)
		}
		if err := writeNew(filepath.Join(dir, filepath.FromSlash(name)), b.Files[name]); err != nil {
			return fmt.Errorf("write pass folder: %w", err)
		}
	}
	return nil
}

func writeNew(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if closed := f.Close(); err == nil {
		err = closed
	}
	return err
}
