package audit

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A LogInfo is one log of a database, which has one for each process that writes at the same
// time. Number 0 is the first, and the only one of SQLite.
type LogInfo struct {
	Number int `json:"log"`
	// Name is that of a log which one process alone takes; empty for those that any may take.
	Name string `json:"name,omitempty"`
	// Origin is that of the log's checkpoints; empty before the first.
	Origin  string    `json:"origin,omitempty"`
	Created time.Time `json:"createdAt,omitzero"` // zero for the first
	// Unlisted says that the database has entries or checkpoints of it and does not list it.
	Unlisted bool `json:"unlisted,omitzero"`
	// Idle says that no process writes it at the moment. It is false where that cannot be
	// known.
	Idle bool `json:"idle,omitzero"`
}

// String is what the log is called: its name, or its number.
func (l LogInfo) String() string {
	if l.Name != "" {
		return l.Name
	}
	return strconv.Itoa(l.Number)
}

// OriginOf is the origin of a log's checkpoints, where base is that of log 0: the others have
// what they are called behind a slash.
func OriginOf(base string, l LogInfo) string {
	if l.Number == 0 {
		return base
	}
	return base + "/" + l.String()
}

// FindLog gives the log that is called so, by its name or its number.
func FindLog(logs []LogInfo, called string) (LogInfo, bool) {
	i := slices.IndexFunc(logs, func(l LogInfo) bool { return l.String() == called || strconv.Itoa(l.Number) == called })
	if i < 0 {
		return LogInfo{}, false
	}
	return logs[i], true
}

// sibling reports whether an origin is of a log beside the one whose log 0 has base.
func sibling(base, origin string) bool {
	return base != "" && (origin == base || strings.HasPrefix(origin, base+"/"))
}

// Logs are the logs of a database, or of an export.
type Logs interface {
	// Logs gives all there are, in order of their numbers.
	Logs(ctx context.Context) ([]LogInfo, error)
	// LogAt gives one of them to be read.
	LogAt(number int) Source
}
