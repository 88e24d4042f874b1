package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/config"
)

// A key is one of the configuration: its path, as in hsm.members[].name, and its kind.
type configKey struct {
	path, kind string
	field      string // Struct.Field
	inner      reflect.Type
}

// configKeys are the keys of a section, in the order of the struct.
func configKeys(section reflect.Type, at string) (all []configKey) {
	for i := range section.NumField() {
		f := section.Field(i)
		name, inner := f.Tag.Get("yaml"), f.Type
		if name == "" {
			continue
		}
		k := configKey{path: at + name, field: section.Name() + "." + f.Name}
		for inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Slice {
			inner, k.path = inner.Elem(), k.path+"[]"
		}
		switch {
		case inner == reflect.TypeFor[time.Duration]():
			k.kind = "duration"
		case inner.Kind() == reflect.Struct:
			k.inner, k.kind = inner, "section"
		case inner.Kind() == reflect.Map:
			k.kind = "name: value"
		case inner.Kind() == reflect.String:
			k.kind = "text"
		case inner.Kind() == reflect.Bool:
			k.kind = "true or false"
		default:
			k.kind = "number"
		}
		all = append(all, k)
	}
	return all
}

// configurationPage is the manual that the configuration's structs are, by its keys.
func configurationPage(t *testing.T) string {
	var b strings.Builder
	b.WriteString("# Configuration\n\n" + generatedNote + `
One YAML file, strict: an unknown key is refused with its line, and ` + "`mintmark config check`" + `
says all that is wrong at once. Each scalar outside lists can be set by a variable of the
environment too, given beside it. Secrets are never values here, only the names of files
that hold them. Paths are taken from the folder of the file. Durations are such as ` + "`15s`" + `,
` + "`10m`" + ` or ` + "`24h`" + `. On SIGHUP the file is read again and what is marked "reloaded" holds from
then on; a change of anything else needs a restart, and is said to.

`)
	m := manual{t: t, out: &b, comments: configComments(t), variables: config.Variables()}
	m.section(reflect.TypeFor[config.Config](), "")
	return b.String()
}

type manual struct {
	t         *testing.T
	out       *strings.Builder
	comments  map[string]string // by Struct.Field, and by Struct
	variables []string
	described map[reflect.Type]string
}

// section describes the keys of a section, and then the sections in it. One that stands at
// several places is described at the first.
func (m *manual) section(section reflect.Type, at string) {
	var inner []configKey
	if m.described == nil {
		m.described = map[reflect.Type]string{}
	}
	m.described[section] = at
	keys := configKeys(section, at)
	for i, k := range keys {
		comment, shared := m.comments[k.field], []configKey{k}
		if i > 0 && m.comments[keys[i-1].field] == comment {
			continue // said with the one before
		}
		for _, next := range keys[i+1:] {
			if m.comments[next.field] == comment {
				shared = append(shared, next)
			}
		}
		m.keys(shared, comment)
		if k.inner != nil {
			inner = append(inner, k)
		}
	}
	for _, k := range inner {
		title := strings.TrimSuffix(k.path, "[]")
		if first, ok := m.described[k.inner]; ok {
			fmt.Fprintf(m.out, "\n## %s\n\nAs [%s](#%s)%s.\n", title, strings.TrimSuffix(first, "."), linkTo(first), m.variablesOf(k))
			continue
		}
		fmt.Fprintf(m.out, "\n## %s\n\n", title)
		m.section(k.inner, k.path+".")
	}
}

// variablesOf names the variables of a section that is described elsewhere.
func (m *manual) variablesOf(section configKey) string {
	var all []string
	for _, path := range configPaths(section.inner, section.path+".") {
		if v := m.variable(path); v != "" {
			all = append(all, "`"+v+"`")
		}
	}
	if all == nil {
		return ""
	}
	return ", by the variables\n" + strings.Join(all, ",\n")
}

// linkTo is how a heading is linked to.
func linkTo(section string) string {
	return strings.ToLower(strings.NewReplacer(".", "", "[", "", "]", "").Replace(section))
}

// keys describes keys that one comment speaks of, under their own names.
func (m *manual) keys(keys []configKey, comment string) {
	var names []string
	for _, k := range keys {
		_, field, _ := strings.Cut(k.field, ".")
		own := strings.TrimSuffix(k.path[strings.LastIndex(k.path, ".")+1:], "[]")
		comment = regexp.MustCompile(`\b`+field+`\b`).ReplaceAllString(comment, "`"+own+"`")
		name := fmt.Sprintf("`%s`, %s", k.path, k.kind)
		if v := m.variable(k.path); v != "" {
			name += ", `" + v + "`"
		}
		names = append(names, name)
	}
	fmt.Fprintf(m.out, "- %s\\\n  %s\n", strings.Join(names, "; "), strings.ReplaceAll(strings.TrimSpace(comment), "\n", "\n  "))
}

// variable is the variable of the environment that sets a key; empty if none does. Two keys
// whose variables were one would be found by TestEveryKeyHasItsVariable.
func (m *manual) variable(path string) string {
	flat := strings.ReplaceAll(path, ".", "")
	for _, v := range m.variables {
		if strings.EqualFold(strings.ReplaceAll(strings.TrimPrefix(v, "MINTMARK_"), "_", ""), flat) {
			return v
		}
	}
	return ""
}

// Every variable of the environment sets a key, and stands beside it on the page.
func TestEveryVariableHasItsKey(t *testing.T) {
	page := configurationPage(t)
	for _, v := range config.Variables() {
		if strings.Count(page, "`"+v+"`") != 1 {
			t.Errorf("%s stands %d times on the page", v, strings.Count(page, "`"+v+"`"))
		}
	}
}

// configComments are the comments of the configuration's fields, by Struct.Field. A field
// without one shares that of the field before, if it is named there.
func configComments(t *testing.T) map[string]string {
	all := map[string]string{}
	eachFile(t, "../../internal/config", func(f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			typ, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			fields, ok := typ.Type.(*ast.StructType)
			if !ok {
				return true
			}
			before := ""
			for _, f := range fields.Fields.List {
				for _, name := range f.Names {
					if doc := f.Doc.Text(); doc != "" {
						before = doc
					}
					all[typ.Name.Name+"."+name.Name] = before
				}
			}
			return true
		})
	})
	return all
}

// eachFile visits the source files of a package, without its tests.
func eachFile(t *testing.T, dir string, visit func(*ast.File)) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", dir, err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, "_test.go") })
	for _, name := range names {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		visit(f)
	}
}
