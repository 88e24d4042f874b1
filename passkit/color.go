package passkit

import (
	"fmt"
	"regexp"
	"strconv"
)

// A Color is written rgb(r, g, b) with decimal numbers from 0 to 255.
type Color string

// RGB is a colour of its three parts.
func RGB(r, g, b uint8) Color { return Color(fmt.Sprintf("rgb(%d, %d, %d)", r, g, b)) }

var (
	rgbForm = regexp.MustCompile(`^\s*rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)\s*$`)
	hexForm = regexp.MustCompile(`^\s*#([0-9A-Fa-f]{3}|[0-9A-Fa-f]{6})\s*$`)
)

// check accepts the documented form; hexadecimal, which Apple's builder reads and its
// documentation does not mention, gets a warning.
func (v Color) check(c *checker, path string) {
	if v == "" {
		return
	}
	parts := rgbForm.FindStringSubmatch(string(v))
	if parts == nil && hexForm.MatchString(string(v)) {
		c.warn(path, "is written in hexadecimal, which is not documented", "write it like "+string(RGB(20, 60, 120)))
		return
	}
	good := parts != nil
	for _, part := range parts[min(1, len(parts)):] {
		n, err := strconv.Atoi(part)
		good = good && err == nil && n <= 255
	}
	if !good {
		c.err(path, "is not a colour", "write it like "+string(RGB(20, 60, 120)))
	}
}
