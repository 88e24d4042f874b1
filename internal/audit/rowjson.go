package audit

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// rowJSON is a row as exports have it, a line each. The body is a text, not a value: its
// digest is over its bytes.
type rowJSON struct {
	Seq        uint64   `json:"seq"`
	At         string   `json:"at"` // RFC 3339, milliseconds, UTC
	Kind       Kind     `json:"kind"`
	Ticket     string   `json:"ticket,omitempty"`
	Tenant     string   `json:"tenant,omitempty"`
	Body       string   `json:"body,omitempty"` // absent once it has expired
	BodySHA256 string   `json:"bodySha256"`     // hex
	Leaf       []byte   `json:"leaf"`           // the leaf's data, Base64
	Hashes     []string `json:"hashes"`         // Base64
}

// timeForm is how times stand in exports.
const timeForm = "2006-01-02T15:04:05.000Z"

// MarshalJSON gives the line of exports.
func (r Row) MarshalJSON() ([]byte, error) {
	j := rowJSON{
		Seq: r.Seq, At: r.At.UTC().Format(timeForm), Kind: r.Kind, Ticket: r.Ticket, Tenant: r.Tenant,
		Body: string(r.Body), BodySHA256: hex.EncodeToString(r.BodySHA256[:]), Leaf: r.Leaf(),
	}
	for _, h := range r.Hashes {
		j.Hashes = append(j.Hashes, h.String())
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads that line.
func (r *Row) UnmarshalJSON(b []byte) error {
	var j rowJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	at, err := time.Parse(timeForm, j.At)
	if err != nil {
		return fmt.Errorf("entry %d: its time is malformed", j.Seq)
	}
	*r = Row{Entry: Entry{Seq: j.Seq, At: at, Kind: j.Kind, Ticket: j.Ticket, Tenant: j.Tenant}}
	if j.Body != "" {
		r.Body = []byte(j.Body)
	}
	digest, err := hex.DecodeString(j.BodySHA256)
	if err != nil || len(digest) != len(r.BodySHA256) {
		return fmt.Errorf("entry %d: its body's digest is malformed", j.Seq)
	}
	copy(r.BodySHA256[:], digest)
	for _, text := range j.Hashes {
		h, err := tlog.ParseHash(text)
		if err != nil {
			return fmt.Errorf("entry %d: a hash is malformed", j.Seq)
		}
		r.Hashes = append(r.Hashes, h)
	}
	return nil
}

// Line is one line of an export: an entry, a checkpoint, or which log follows.
type Line struct {
	Row        *Row
	Checkpoint *Checkpoint
	Log        *LogInfo
}

// errLine is returned for a line that is neither.
var errLine = errors.New("it is neither an entry nor a checkpoint")

// logLine is how a line begins that says which log follows.
const logLine = `{"log":`

// ParseLine reads a line of an export.
func ParseLine(b []byte) (Line, error) {
	var kind struct {
		Seq        *uint64 `json:"seq"`
		Checkpoint *string `json:"checkpoint"`
		Log        *int    `json:"log"`
	}
	if err := json.Unmarshal(b, &kind); err != nil {
		return Line{}, errLine
	}
	var l Line
	switch {
	case kind.Checkpoint != nil:
		l.Checkpoint = &Checkpoint{}
		return l, json.Unmarshal(b, l.Checkpoint)
	case kind.Seq != nil:
		l.Row = &Row{}
		return l, json.Unmarshal(b, l.Row)
	case kind.Log != nil:
		l.Log = &LogInfo{}
		return l, json.Unmarshal(b, l.Log)
	default:
		return l, errLine
	}
}

// String is a row for people: one line.
func (r Row) String() string {
	body := string(r.Body)
	if r.Expired() {
		body = "(expired)"
	}
	return strings.Join([]string{fmt.Sprint(r.Seq), r.At.UTC().Format(timeForm), string(r.Kind), orDash(r.Tenant), orDash(r.Ticket), body}, " ")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
