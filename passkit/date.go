package passkit

import (
	"errors"
	"regexp"
	"time"
)

// A Date is a point in time as pass.json writes it: the W3C's profile of ISO 8601 with
// date, hours and minutes, seconds if wanted, and Z or an offset. It is kept as text,
// since the offset is shown.
type Date string

// NewDate writes t with its own offset, in seconds.
func NewDate(t time.Time) Date { return Date(t.Format(time.RFC3339)) }

var (
	dateForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$`)
	errDate  = errors.New("not a date with hours, minutes and an offset")
)

const dateRemedy = "write it like 2030-01-31T18:30:00+01:00 or 2030-01-31T17:30:00Z"

// Time is the point in time.
func (d Date) Time() (time.Time, error) {
	if !dateForm.MatchString(string(d)) {
		return time.Time{}, errDate
	}
	layout := "2006-01-02T15:04:05Z07:00"
	if d[16] != ':' {
		layout = "2006-01-02T15:04Z07:00"
	}
	t, err := time.Parse(layout, string(d))
	if err != nil {
		return time.Time{}, errDate
	}
	return t, nil
}

// check gives the time, if there is one.
func (d Date) check(c *checker, path string) (time.Time, bool) {
	if d == "" {
		return time.Time{}, false
	}
	t, err := d.Time()
	if err != nil {
		c.err(path, "is not a date with hours, minutes and an offset", dateRemedy)
	}
	return t, err == nil
}
