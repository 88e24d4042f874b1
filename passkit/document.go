package passkit

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Members are members of a JSON object that no field stands for, by name. They are
// kept when a document is read and written again, in the order of their names.
type Members map[string]jsontext.Value

func (m Members) names() []string { return slices.Sorted(maps.Keys(m)) }

// maxDocument bounds pass.json and personalization.json. Real ones have 2 to 50 KB.
const maxDocument = 1 << 20

// ErrDocument is wrapped by the error for a document that is not strict JSON (RFC 7493:
// UTF-8, no member twice, nothing after it), is too large, or has a member of the wrong
// type. The findings beside it say where.
var ErrDocument = errors.New("the document cannot be read")

// maxFaults bounds how many members of the wrong type are named at once.
const maxFaults = 20

// decode reads a document. With an error it gives no document, and the findings have
// every member of the wrong type. Without, the findings warn of members that are null,
// which are left out.
func decode[T any](file string, b []byte) (*T, []Finding, error) {
	c := checker{file: file}
	if len(b) > maxDocument {
		c.err("", "is larger than 1 MiB", "move texts into the web service or shorten them")
		return nil, c.found, fmt.Errorf("%s: %w: too large", file, ErrDocument)
	}
	v := new(T)
	err := json.Unmarshal(b, v)
	if err == nil && jsontext.Value(b).Kind() != '{' { // null decodes into anything
		c.err("", "is not a JSON object", "begin it with { and end it with }")
		return nil, c.found, fmt.Errorf("%s: %w: not an object", file, ErrDocument)
	}
	if err == nil {
		c.nulls(b, v)
		return v, c.found, nil
	}
	rest := b
	for range maxFaults {
		path, ok := c.fault(err)
		if !ok {
			break
		}
		if rest, ok = without(rest, path); !ok {
			break
		}
		if err = json.Unmarshal(rest, new(T)); err == nil {
			break
		}
	}
	return nil, c.found, fmt.Errorf("%s: %w: %s", file, ErrDocument, c.found[0].Message)
}

// fault makes a finding of a decoder's error, whose own text quotes the document. It
// gives the path of a member with the wrong type; any other fault ends the reading.
func (c *checker) fault(err error) (path string, wrongType bool) {
	var syntactic *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &semantic) && semantic.Err != nil && errors.As(semantic.Err, &syntactic), errors.As(err, &syntactic):
		path = shown(syntactic.JSONPointer)
		if errors.Is(syntactic, jsontext.ErrDuplicateName) {
			c.err(path, "stands twice in one object", "keep one of the two")
			return path, false
		}
		c.err(path, "is not JSON in UTF-8 from byte "+strconv.FormatInt(syntactic.ByteOffset, 10)+" on, or something follows it",
			"correct the text there")
		return path, false
	case errors.As(err, &semantic):
		path = string(semantic.JSONPointer)
		c.err(shown(semantic.JSONPointer), "has the wrong type, or a number out of range", "give it "+wanted(semantic))
		return path, path != ""
	}
	c.err("", "is not one JSON object", "check that the file is whole")
	return "", false
}

// shown is a decoder's pointer with its names bounded.
func shown(p jsontext.Pointer) string {
	path := ""
	for name := range p.Tokens() {
		path = member(path, name)
	}
	return path
}

// wanted says in words which type a member should have.
func wanted(err *json.SemanticError) string {
	if err.GoType == nil {
		return "the documented type"
	}
	switch kind := err.GoType.Kind().String(); kind {
	case "bool":
		return "true or false, without quotes"
	case "string":
		return "a text in quotes"
	case "slice":
		return "an array"
	case "uint16":
		return "a whole number from 0 to 65535, without quotes"
	case "int", "int64", "float64":
		return "a number, without quotes"
	case "map":
		return "an object"
	}
	if err.GoType.Name() == "Value" {
		return "a text or a number"
	}
	return "an object"
}

// without is the document with the value at the path taken out, so that the next
// decoding finds the next fault. Only its type matters then, not its precision.
func without(b []byte, path string) ([]byte, bool) {
	var tree any
	if json.Unmarshal(b, &tree) != nil {
		return nil, false
	}
	at := tree
	tokens := slices.Collect(jsontext.Pointer(path).Tokens())
	for i, name := range tokens {
		last := i == len(tokens)-1
		switch node := at.(type) {
		case map[string]any:
			if last {
				delete(node, name)
			}
			at = node[name]
		case []any:
			n, err := strconv.Atoi(name)
			if err != nil || n < 0 || n >= len(node) {
				return nil, false
			}
			if last {
				node[n] = nil
			}
			at = node[n]
		default:
			return nil, false
		}
	}
	out, err := json.Marshal(tree)
	return out, err == nil && len(tokens) > 0
}

// nulls warns of members that are null in the text and therefore not in v.
func (c *checker) nulls(text []byte, v any) {
	before := nullPaths(text)
	if len(before) == 0 {
		return
	}
	kept, err := encode(v)
	if err != nil { // the encoder of our own types; a fault shows when it is used
		return
	}
	after := nullPaths(kept)
	for _, p := range before {
		if !slices.Contains(after, p) {
			c.warn(shown(p), "is null and counts as absent", "leave the member out")
		}
	}
}

// nullPaths are the places of all nulls in a valid document.
func nullPaths(b []byte) (found []jsontext.Pointer) {
	d := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		t, err := d.ReadToken()
		if err != nil { // the end
			return found
		}
		if t.Kind() == 'n' && len(found) < maxFaults {
			found = append(found, d.StackPointer())
		}
	}
}

// encode writes a document on one line: members in the order of the fields, those that
// are not known after them by name.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return b, nil
}

// encodeReadably is encode with line breaks, for files that people edit.
func encodeReadably(v any) ([]byte, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return append(b, '\n'), nil
}
