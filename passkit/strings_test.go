package passkit_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/passkit"
)

func TestStringsAreReadAsTheyWereWritten(t *testing.T) {
	s := passkit.Strings{
		"GATE": "Tor", "quote \" and \\": "a\nb\tc\r", "": "empty key", "empty value": "", "𝄞 €": "Ünïcode 𝄞", "// no comment": "/* none */",
	}
	for name, b := range map[string][]byte{"UTF-8": s.Encode(), "UTF-16": s.EncodeUTF16()} {
		got, err := passkit.ParseStrings(b)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestStringsOfOtherToolsAreRead(t *testing.T) {
	for name, text := range map[string]string{
		"comments":        "/* one\ntwo */ \"a\" = \"b\"; // three\n",
		"byte order mark": "\ufeff\"a\"=\"b\";",
		"Windows lines":   "\"a\" = \"b\";\r\n",
		"no quotes":       `a = b;`,
		"escapes":         `"\U0061" = "\u0062";`,
		"UTF-16, big":     "\xfe\xff\x00\"\x00a\x00\"\x00=\x00\"\x00b\x00\"\x00;",
	} {
		got, err := passkit.ParseStrings([]byte(text))
		if err != nil || len(got) != 1 || got["a"] != "b" {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if got, err := passkit.ParseStrings([]byte(`"a" = "\UD834\UDD1E";`)); err != nil || got["a"] != "𝄞" {
		t.Errorf("surrogate pair: %v, %v", got, err)
	}
}

func TestStringsThatCannotBeReadSayWhere(t *testing.T) {
	for text, why := range map[string]string{
		`"a" = "b"`:                         "line 1: ; is missing",
		"\n\"a\" \"b\";":                    "line 2: = is missing",
		"\"a\" = \"b\";\n\"a\" = \"c\";":    "line 2: a key stands twice",
		`"a" = "b`:                          "does not end",
		`/* "a" = "b";`:                     "comment does not end",
		`"a" = "\q";`:                       "escape",
		`"a" = "\UD834";`:                   "escape",
		`"a" = ;`:                           "in quotes is missing",
		"bplist00\xd1":                      "binary property list",
		"\xff\xfea":                         "odd number",
		"\"a\" = \"\xff\";":                 "neither UTF-8 nor UTF-16",
		"\"\x00a\x00\"\x00=\x00\"\x00b\x00": "neither UTF-8 nor UTF-16",
	} {
		if _, err := passkit.ParseStrings([]byte(text)); !errors.Is(err, passkit.ErrStrings) || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", text, err, why)
		}
	}
}

func TestLocalizationsAreHeldAgainstThePass(t *testing.T) {
	german := passkit.Strings{"TITLE": "TITEL", "NAME": "NAME"}
	for _, c := range []struct {
		name  string
		files map[string][]byte
		place string
		want  int
	}{
		{"right ones", map[string][]byte{
			"de.lproj/pass.strings": german.Encode(), "pt-BR.lproj/pass.strings": passkit.Strings{"TITLE": "x", "NAME": "y"}.EncodeUTF16(),
		}, "", 0},
		{"a key that is a member's name", map[string][]byte{"de.lproj/pass.strings": passkit.Strings{"primaryFields": "x"}.Encode()}, "de.lproj/pass.strings", 1},
		{"a key of no use", map[string][]byte{"de.lproj/pass.strings": passkit.Strings{"OTHER": "x"}.Encode()}, "de.lproj/pass.strings", 1},
		{"a key that one language lacks", map[string][]byte{
			"de.lproj/pass.strings": german.Encode(), "en.lproj/pass.strings": passkit.Strings{"TITLE": "x"}.Encode(),
		}, "en.lproj/pass.strings", 1},
		{"a file that cannot be read", map[string][]byte{"de.lproj/pass.strings": []byte(`"a"`)}, "de.lproj/pass.strings", 1},
		{"a folder that is no language", map[string][]byte{"german.lproj/pass.strings": german.Encode()}, "german.lproj", 1},
		{"a file that is not used", map[string][]byte{"de.lproj/Localizable.strings": german.Encode()}, "de.lproj/Localizable.strings", 1},
	} {
		b := bundle(t, passkit.Generic)
		for name, content := range c.files {
			b.Files[name] = content
		}
		found := b.Validate()
		complete(t, found)
		if len(found) != c.want || len(about(found, c.place)) != c.want {
			t.Errorf("%s: %v", c.name, found)
		}
	}
}

func FuzzParseStrings(f *testing.F) {
	f.Add(passkit.Strings{"a": "b\n"}.Encode())
	f.Add(passkit.Strings{"a": "𝄞"}.EncodeUTF16())
	f.Add([]byte(`/* x */ a = "\U0061"; // y`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := passkit.ParseStrings(b)
		if err != nil {
			if !errors.Is(err, passkit.ErrStrings) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		again, err := passkit.ParseStrings(s.Encode())
		if err != nil || !cmp.Equal(s, again) {
			t.Fatalf("%v: %s", err, cmp.Diff(s, again))
		}
	})
}
