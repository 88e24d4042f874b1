package webservice

import (
	"regexp"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json"
)

// The bounds of one call to log.
const (
	MaxLogLines = 100
	maxLogLine  = 1024 // bytes of what is shown
)

// LogKind is what a device was doing when it met what it tells.
type LogKind string

// The kinds. They are few, so that they can label a metric.
const (
	LogRegister    LogKind = "register"
	LogUnregister  LogKind = "unregister"
	LogList        LogKind = "list"
	LogGet         LogKind = "get"
	LogPersonalize LogKind = "personalize"
	LogWebService  LogKind = "web-service"
	LogOther       LogKind = "other"
)

// A LogLine is one thing that a device tells, and whom it names. Names that the text does
// not have are empty.
type LogLine struct {
	Kind                     LogKind
	Device, PassType, Serial string
	Text                     string // without control characters; not bounded, see Masked
}

// [B]: the shapes are those that servers in the field have published from their logs, such
// as "[2026-01-02 03:04:05 +0000] Register task (for device D, pass type P, serial number
// S; with web service url U) encountered error: …". Apple does not document them.
var (
	logKinds = []struct {
		kind LogKind
		form *regexp.Regexp
	}{
		{LogUnregister, regexp.MustCompile(`(?i)\bunregister\w* (task|device|pass)`)},
		{LogRegister, regexp.MustCompile(`(?i)\bregist\w+ (task|device|pass|request)`)},
		{LogList, regexp.MustCompile(`(?i)\bget serial ?(#s|numbers?)`)},
		{LogGet, regexp.MustCompile(`(?i)\bget (latest )?pass\b`)},
		{LogPersonalize, regexp.MustCompile(`(?i)\bpersonali[sz]`)},
		{LogWebService, regexp.MustCompile(`(?i)\bweb service (error|url)`)},
	}
	logDevice   = regexp.MustCompile(`\bfor device ([^\s,;()]+)`)
	logDevices  = regexp.MustCompile(`(?:\bfor device |\bdevices/)([^/\s,;()]+)`) // in addresses too
	logPassType = regexp.MustCompile(`\bpass type ([A-Za-z0-9._-]{1,128})`)
	logSerial   = regexp.MustCompile(`\bserial number ([^\s,;()]{1,128})`)
)

// ParseLogs reads the body of log. Lines beyond MaxLogLines are left out.
func ParseLogs(body []byte) ([]LogLine, error) {
	var b struct {
		Logs []string `json:"logs"`
	}
	if json.Unmarshal(body, &b) != nil {
		return nil, ErrBody
	}
	lines := make([]LogLine, 0, min(len(b.Logs), MaxLogLines))
	for _, text := range b.Logs[:min(len(b.Logs), MaxLogLines)] {
		lines = append(lines, parseLine(text))
	}
	return lines, nil
}

func parseLine(text string) LogLine {
	l := LogLine{Kind: LogOther, Text: clean(text)}
	for _, k := range logKinds {
		if k.form.MatchString(l.Text) {
			l.Kind = k.kind
			break
		}
	}
	first := func(form *regexp.Regexp) string {
		if m := form.FindStringSubmatch(l.Text); m != nil {
			return m[1]
		}
		return ""
	}
	l.Device, l.PassType, l.Serial = first(logDevice), first(logPassType), first(logSerial)
	return l
}

// Masked is the text with instead in place of each device identifier, and then cut to a
// bounded length: cutting first could leave half of one.
func (l LogLine) Masked(instead func(device string) string) string {
	var b strings.Builder
	rest := 0
	for _, m := range logDevices.FindAllStringSubmatchIndex(l.Text, -1) {
		b.WriteString(l.Text[rest:m[2]])
		b.WriteString(instead(l.Text[m[2]:m[3]]))
		rest = m[3]
	}
	b.WriteString(l.Text[rest:])
	text := b.String()
	return strings.ToValidUTF8(text[:min(len(text), maxLogLine)], "?")
}

// clean is text on one line, of printing characters.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
