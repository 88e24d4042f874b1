package passkit

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Severity is how bad a Finding is.
type Severity string

// The severities.
const (
	// Error: a device or Apple's own builder refuses the pass, or it cannot do what it
	// says. Sign refuses it too.
	Error Severity = "error"

	// Warning: shown differently than meant, ignored, or unknown here.
	Warning Severity = "warning"
)

// A Finding is one thing wrong with a pass, and the way out. It holds names of members
// and files, never their values.
type Finding struct {
	Severity Severity `json:"severity"`
	File     string   `json:"file,omitempty"` // in the bundle; empty: the bundle as a whole, or the certificate
	Path     string   `json:"path,omitempty"` // JSON Pointer (RFC 6901) in the file; empty: the file as a whole
	Message  string   `json:"message"`        // what was found
	Remedy   string   `json:"remedy"`         // what to do
}

// String is the finding on one line.
func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(string(f.Severity))
	for _, s := range []string{f.File, f.Path} {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	fmt.Fprintf(&b, ": %s; %s", f.Message, f.Remedy)
	return b.String()
}

// HasErrors reports whether one of the findings is an Error.
func HasErrors(found []Finding) bool {
	for _, f := range found {
		if f.Severity == Error {
			return true
		}
	}
	return false
}

// checker collects findings about one file.
type checker struct {
	file  string
	found []Finding
}

func (c *checker) err(path, message, remedy string) {
	c.found = append(c.found, Finding{Error, c.file, path, message, remedy})
}

func (c *checker) warn(path, message, remedy string) {
	c.found = append(c.found, Finding{Warning, c.file, path, message, remedy})
}

// unknown warns of members that no type here has.
func (c *checker) unknown(path string, members Members) {
	for _, name := range members.names() {
		c.warn(member(path, name), "is not a member known here; it is kept",
			"check its spelling; a new member of Apple's needs nothing")
	}
}

// oneOf says that value, if there is one, must be among those known.
func oneOf[T ~string](c *checker, path string, value T, known ...T) {
	if value == "" {
		return
	}
	names := make([]string, len(known))
	for i, k := range known {
		if k == value {
			return
		}
		names[i] = string(k)
	}
	c.err(path, "is not a value that Wallet knows", "use one of "+strings.Join(names, ", "))
}

// longestName bounds what a path shows of a member's name, which may come from anybody.
const longestName = 64

// member is the path of a member of the object at path.
func member(path, name string) string {
	if len(name) > longestName {
		name = strings.ToValidUTF8(name[:longestName], "") + "…"
	}
	printable := strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '�'
		}
		return r
	}, name)
	return string(jsontext.Pointer(path).AppendToken(printable))
}

// index is the path of an element of the array at path.
func index(path string, i int) string { return path + "/" + strconv.Itoa(i) }
