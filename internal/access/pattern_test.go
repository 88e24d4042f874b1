package access_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mintmark/mintmark/internal/access"
)

func TestPattern(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		matches []string
		not     []string
	}{
		{"shop", []string{"shop"}, []string{"", "Shop", "shop ", " shop", "shops", "workshop"}},
		{"*", []string{"", "a", "a\nb", "*"}, nil},
		{"shop-*", []string{"shop-", "shop-7", "shop-7-8"}, []string{"shop", "my-shop-7", "SHOP-7"}},
		{"*@bank.example", []string{"@bank.example", "a@bank.example"}, []string{"a@bank.example.evil", "a@bankXexample"}},
		{"a*b", []string{"ab", "a-b", "abab"}, []string{"a", "b", "aba", "bab"}},
		{"aa*aa", []string{"aaaa", "aabaa"}, []string{"aaa", "aa"}},
		{"a*b*c", []string{"abc", "a1b2c", "abbcc"}, []string{"acb", "ab", "bc"}},
		{"*a*", []string{"a", "bab"}, []string{"", "b"}},
		{"**", []string{"", "x"}, nil},
		{"a?c", []string{"a?c"}, []string{"abc"}},
		{"[ab]", []string{"[ab]"}, []string{"a"}},
		{`a\*`, []string{`a\`, `a\b`}, []string{"a*"}},
		{"ü*", []string{"ü", "üx"}, []string{"u"}},
	} {
		p, err := access.NewPattern(tc.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if p.String() != tc.pattern {
			t.Errorf("%q prints as %q", tc.pattern, p)
		}
		for _, s := range tc.matches {
			if !p.Match(s) {
				t.Errorf("%q does not match %q", tc.pattern, s)
			}
		}
		for _, s := range tc.not {
			if p.Match(s) {
				t.Errorf("%q matches %q", tc.pattern, s)
			}
		}
	}
	for _, bad := range []string{"", "a\x00", "a\n*", "\xff", strings.Repeat("*", 256)} {
		if _, err := access.NewPattern(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if (access.Pattern{}).Match("") {
		t.Error("the zero Pattern matches")
	}
}

// FuzzPattern holds patterns against regular expressions that say the same.
func FuzzPattern(f *testing.F) {
	f.Add("a*b*c", "a1b2c")
	f.Add("*aa*aa*", "aaa")
	f.Add("**a", "ba")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		p, err := access.NewPattern(pattern)
		if err != nil || !utf8.ValidString(s) {
			return
		}
		same := regexp.MustCompile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`) + `\z`)
		if got, want := p.Match(s), same.MatchString(s); got != want {
			t.Fatalf("%q matches %q: %v, want %v", pattern, s, got, want)
		}
	})
}
