package passkit

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrName is wrapped by the error for a file's name that a bundle cannot have.
var ErrName = errors.New("not a name for a file of a pass")

// maxName bounds a name. The longest that Wallet uses, a localised image, has about 40.
const maxName = 200

// checkName accepts relative paths with slashes, in one spelling: nothing that leaves
// the folder, that another system reads as a different path, or that cannot be shown.
// Combining marks are refused, since some file systems compose them and others do not.
func checkName(name string) error {
	switch {
	case name == "" || len(name) > maxName || !utf8.ValidString(name):
		return fmt.Errorf("%w: empty, longer than %d bytes, or not UTF-8", ErrName, maxName)
	case strings.ContainsAny(name, `\:`):
		return fmt.Errorf("%w: it has a backslash or colon", ErrName)
	case strings.HasPrefix(name, "/"), path.Clean(name) != name, name == ".", name == "..", strings.HasPrefix(name, "../"):
		return fmt.Errorf("%w: it is absolute, or has an empty, . or .. part", ErrName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) || unicode.Is(unicode.M, r) {
			return fmt.Errorf("%w: it has a character that cannot be printed, or a combining mark", ErrName)
		}
	}
	return nil
}

// fold gives names that differ only in case the same spelling: of each letter, the
// first of those that Unicode folds together one to one. Foldings into several letters
// (ß to ss) are not made.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		first := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			first = min(first, f)
		}
		return first
	}, name)
}

// nameSet finds names that are one file on some device: equal but for case, a file
// where another name has a folder, or folders equal but for case.
type nameSet struct {
	files   map[string]bool   // folded
	folders map[string]string // folded, to the one spelling
}

func newNameSet() nameSet { return nameSet{map[string]bool{}, map[string]string{}} }

// add checks a file's name and adds it.
func (s nameSet) add(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	key := fold(name)
	if _, folder := s.folders[key]; folder || s.files[key] {
		return fmt.Errorf("%w: it stands twice, or differs from another in case only", ErrName)
	}
	s.files[key] = true
	if dir := path.Dir(name); dir != "." {
		return s.addFolder(dir)
	}
	return nil
}

// addFolder checks a folder's name and adds it with those above it. It may be there.
func (s nameSet) addFolder(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	for ; name != "."; name = path.Dir(name) {
		key := fold(name)
		if spelling, known := s.folders[key]; s.files[key] || known && spelling != name {
			return fmt.Errorf("%w: its folder is a file, or differs from another in case only", ErrName)
		}
		s.folders[key] = name
	}
	return nil
}
