package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/config"
)

// The structs are the manual: each field stands in the file under one name, and says
// what it means, and where it has a default, which.
func TestEveryFieldIsDocumented(t *testing.T) {
	docs := fieldDocs(t)
	defaults := load(t, least)
	var walk func(typ reflect.Type, v reflect.Value, at string)
	walk = func(typ reflect.Type, v reflect.Value, at string) {
		for f := range fields(typ) {
			key := f.Tag.Get("yaml")
			if key == "" || strings.Contains(key, ",") {
				t.Errorf("%s.%s has no plain name in the file (yaml:%q)", typ.Name(), f.Name, key)
			}
			doc := docs[typ.Name()+"."+f.Name]
			if len(doc) < 10 || !strings.Contains(doc, ".") {
				t.Errorf("%s%s (%s.%s) does not say what it means: %q", at, key, typ.Name(), f.Name, doc)
			}
			inner, value := f.Type, reflect.Value{}
			if v.IsValid() {
				value = v.FieldByIndex(f.Index)
			}
			// A number that is not zero with nothing said is a default, and is told.
			scalar := slices.Contains([]reflect.Kind{reflect.Int, reflect.Int64, reflect.Float64}, inner.Kind())
			if scalar && value.IsValid() && !value.IsZero() && !strings.Contains(doc, "Default") {
				t.Errorf("%s%s has a default that its comment does not give: %q", at, key, doc)
			}
			for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
				inner, value = inner.Elem(), reflect.Value{}
			}
			if inner.Kind() == reflect.Struct {
				walk(inner, value, at+key+".")
			}
		}
	}
	walk(reflect.TypeFor[config.Config](), reflect.ValueOf(*defaults), "")
}

// fields are the exported fields of a struct.
func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if f := typ.Field(i); f.IsExported() && !yield(f) {
				return
			}
		}
	}
}

// fieldDocs gives each field's comment by Struct.Field. A comment stands for the fields
// that follow it without a blank line or a comment of their own, if it names them.
func fieldDocs(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for _, name := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		addFieldDocs(parsed, docs)
	}
	return docs
}

func addFieldDocs(parsed *ast.File, docs map[string]string) {
	ast.Inspect(parsed, func(n ast.Node) bool {
		typ, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		st, ok := typ.Type.(*ast.StructType)
		if !ok {
			return true
		}
		before := ""
		for _, f := range st.Fields.List {
			doc := f.Doc.Text()
			for _, name := range f.Names {
				if doc == "" && strings.Contains(before, name.Name) {
					doc = before
				}
				docs[typ.Name.Name+"."+name.Name] = doc
			}
			before = doc
		}
		return true
	})
}
