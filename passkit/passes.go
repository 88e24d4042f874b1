package passkit

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"
)

// MaxPasses is how many passes a .pkpasses may hold, MaxPassesSize how many bytes.
const (
	MaxPasses     = 10
	MaxPassesSize = 150 << 20
)

// ErrPasses is wrapped by the error for several passes that cannot be in one file.
var ErrPasses = errors.New("not several passes as one file may hold them")

var passesLimits = limits{archive: MaxPassesSize, entries: 2 * MaxPasses, file: passLimits.archive, total: MaxPassesSize}

// PackPasses puts several .pkpass into one .pkpasses, which a device installs together.
func PackPasses(passes [][]byte, now time.Time) ([]byte, error) {
	if len(passes) == 0 || len(passes) > MaxPasses {
		return nil, fmt.Errorf("%w: there are %d; 1 to %d may be", ErrPasses, len(passes), MaxPasses)
	}
	files := make(map[string][]byte, len(passes))
	for i, p := range passes {
		files[fmt.Sprintf("pass-%02d.pkpass", i+1)] = p
	}
	out, err := writeArchive(files, now)
	if err == nil && len(out) > MaxPassesSize {
		return nil, fmt.Errorf("%w: larger than 150 MB", ErrPasses)
	}
	return out, err
}

// OpenPasses reads a .pkpasses: the bundles in the order of their names. The archive
// and each pass in it are held to what Open holds.
func OpenPasses(pkpasses []byte) ([]*Bundle, error) {
	files, err := readArchive(pkpasses, passesLimits)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 || len(files) > MaxPasses {
		return nil, fmt.Errorf("%w: there are %d; 1 to %d may be", ErrPasses, len(files), MaxPasses)
	}
	bundles := make([]*Bundle, 0, len(files))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if path.Ext(name) != ".pkpass" {
			return nil, fmt.Errorf("%w: a file in it is not named .pkpass", ErrPasses)
		}
		b, err := Open(files[name])
		if err != nil {
			return nil, fmt.Errorf("pass %d: %w", len(bundles)+1, err)
		}
		bundles = append(bundles, b)
	}
	return bundles, nil
}
