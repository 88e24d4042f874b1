package access

import (
	"errors"
	"fmt"
	"strings"
)

// A Pattern is a text in which each * stands for any run of characters, also none;
// every other character stands for itself. It matches whole texts: "shop-*" matches
// shop-7 and not my-shop-7. The zero Pattern matches nothing.
type Pattern struct{ text string }

// NewPattern checks a pattern that the operator wrote: 1 to [MaxIdentifier] bytes of
// printing characters.
func NewPattern(text string) (Pattern, error) {
	if text == "" {
		return Pattern{}, errors.New("pattern is empty; * matches everything")
	}
	if !isIdentifier(text) {
		return Pattern{}, fmt.Errorf("pattern %q is longer than %d bytes or holds a character that does not print", text, MaxIdentifier)
	}
	return Pattern{text}, nil
}

// String is the pattern as the operator wrote it.
func (p Pattern) String() string { return p.text }

// Match reports whether the whole of s matches. Its time grows with the length of s
// times that of the pattern at most: each piece is taken where it first occurs, and
// never taken back.
func (p Pattern) Match(s string) bool {
	head, rest, star := strings.Cut(p.text, "*")
	if !star {
		return p.text != "" && s == p.text
	}
	s, ok := strings.CutPrefix(s, head)
	for ok {
		var piece string
		if piece, rest, star = strings.Cut(rest, "*"); !star {
			return strings.HasSuffix(s, piece)
		}
		_, s, ok = strings.Cut(s, piece)
	}
	return false
}

// newPatterns compiles patterns; the errors name the list they stand in.
func newPatterns(list string, texts []string) (patterns []Pattern, problems []error) {
	for _, t := range texts {
		p, err := NewPattern(t)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", list, err))
		}
		patterns = append(patterns, p)
	}
	return patterns, problems
}

// anyMatches reports whether one of the patterns matches s.
func anyMatches(patterns []Pattern, s string) bool {
	for _, p := range patterns {
		if p.Match(s) {
			return true
		}
	}
	return false
}
