package passkit

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Languages are the languages that the bundle has a folder for, sorted.
func (b *Bundle) Languages() []string {
	found := map[string]bool{}
	for name := range b.Files {
		if language, _, ok := strings.Cut(name, ".lproj/"); ok {
			found[language] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// checkLocalizations checks every pass.strings: that it can be read, that the pass uses
// its keys, and that no language lacks a key that another has.
func checkLocalizations(b *Bundle) []Finding {
	c := &checker{}
	languages := map[string]Strings{}
	all := map[string]bool{}
	used := textsOf(b.Files[FilePass], b.Files[FilePersonalization])
	for _, language := range b.Languages() {
		c.file = language + ".lproj"
		if !lprojForm.MatchString(c.file) {
			c.warn("", "is not named after a language", "name it like en.lproj or pt-BR.lproj")
		}
		c.file = StringsFile(language)
		content, ok := b.Files[c.file]
		if !ok {
			continue
		}
		s, err := ParseStrings(content)
		if err != nil {
			c.err("", err.Error(), "write lines like \"key\" = \"value\"; in UTF-8")
			continue
		}
		languages[language] = s
		unused := 0
		for key := range s {
			all[key] = true
			if !used[key] {
				unused++
			}
		}
		if unused > 0 {
			c.warn("", count(unused, "key")+" not in pass.json", "write the key as the label or value in pass.json, or remove it")
		}
	}
	for _, language := range slices.Sorted(maps.Keys(languages)) {
		if missing := len(all) - len(languages[language]); missing > 0 {
			c.file = StringsFile(language)
			c.warn("", count(missing, "key")+" missing that another language has", "add it; Wallet shows the key itself otherwise")
		}
	}
	return c.found
}

// textsOf are all texts in the documents that are not names of members.
func textsOf(documents ...[]byte) map[string]bool {
	found := map[string]bool{}
	for _, document := range documents {
		d := jsontext.NewDecoder(bytes.NewReader(document))
		for {
			t, err := d.ReadToken()
			if err != nil {
				break
			}
			kind, n := d.StackIndex(d.StackDepth())
			name := kind == '{' && n%2 == 1
			if t.Kind() == '"' && !name {
				found[t.String()] = true
			}
		}
	}
	return found
}

// checkUnused warns of files that Wallet does not read.
func checkUnused(files map[string][]byte) []Finding {
	c := &checker{}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		switch name {
		case FilePass, FileManifest, FileSignature, FilePersonalization, "tooling.json": // the last is of Apple's tools
			continue
		}
		if _, ok := parseImageName(name); ok {
			continue
		}
		if dir, file := path.Split(name); file == fileStrings && strings.HasSuffix(dir, ".lproj/") {
			continue
		}
		c.file = name
		c.warn("", "is not a file that Wallet reads", "remove it, or check its name")
	}
	return c.found
}
