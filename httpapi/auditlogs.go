package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/audit"
)

// DatabaseLogs are the logs of the database, of which this process writes one.
type DatabaseLogs interface {
	audit.Logs
	// LastOf gives the largest checkpoint of a log; false if there is none.
	LastOf(ctx context.Context, number int) (audit.Checkpoint, bool, error)
}

// LogList is the body of GET /v1/audit/logs.
type LogList struct {
	Own  int             `json:"own"` // the number of the one that the answering process writes
	Logs []audit.LogInfo `json:"logs"`
}

// The answers about a log that the database does not have, and about one without a checkpoint.
// Who asks the API for a checkpoint is not told which of the two it is.
var (
	noLog = problem{status: http.StatusNotFound, name: "no-such-resource", title: "No such log",
		detail: "No log of the database has this name or number. GET /v1/audit/logs on the admin listener lists them."}
	noCheckpoint = problem{status: http.StatusNotFound, name: "no-such-resource", title: "No checkpoint",
		detail: "No log of this name or number has a checkpoint. GET /v1/audit/logs on the admin listener lists the logs."}
)

// list answers with the logs of the database.
func (a *auditRoutes) list(c *gin.Context) {
	all, err := a.logs.Logs(c.Request.Context())
	if err != nil {
		a.fail(c, err)
		return
	}
	writeJSON(c, http.StatusOK, "application/json", LogList{Own: a.own, Logs: all})
}

// named gives the log that a request is about: that of its parameter log, or the own. It has
// answered where it gives none.
func (a *auditRoutes) named(c *gin.Context) (number int, ok bool) {
	called := c.Query("log")
	if called == "" {
		return a.own, true
	}
	all, err := a.logs.Logs(c.Request.Context())
	if err != nil {
		a.fail(c, err)
		return 0, false
	}
	l, ok := audit.FindLog(all, called)
	if !ok {
		noLog.write(c)
	}
	return l.Number, ok
}

// lastOf gives a log's last checkpoint: of the own as it was made, of another as it was kept.
func (a *auditRoutes) lastOf(ctx context.Context, number int) (audit.Checkpoint, bool, error) {
	if number == a.own {
		k, ok := a.last.Latest()
		return k, ok, nil
	}
	return a.logs.LastOf(ctx, number)
}

// Published gives anybody the last checkpoints of all logs of the database. However many ask,
// the database is read once a second.
type Published struct {
	Logs DatabaseLogs
	Now  func() time.Time

	mu   sync.Mutex // guards all below; held while the database is read
	read time.Time
	kept map[string]audit.Checkpoint // by what the log is called, its number too
}

// publishedFor is how long a checkpoint that was read is given.
const publishedFor = time.Second

// Of gives the last checkpoint of a log, by its name or its number; false if there is none.
func (p *Published) Of(ctx context.Context, log string) (audit.Checkpoint, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == nil || p.Now().Sub(p.read) >= publishedFor {
		kept, err := p.all(ctx)
		if err != nil {
			return audit.Checkpoint{}, false, err
		}
		p.kept, p.read = kept, p.Now()
	}
	k, ok := p.kept[log]
	return k, ok, nil
}

func (p *Published) all(ctx context.Context) (map[string]audit.Checkpoint, error) {
	logs, err := p.Logs.Logs(ctx)
	if err != nil {
		return nil, err
	}
	kept := map[string]audit.Checkpoint{}
	for _, l := range logs {
		k, ok, err := p.Logs.LastOf(ctx, l.Number)
		if err != nil {
			return nil, err
		}
		if ok {
			kept[l.String()], kept[strconv.Itoa(l.Number)] = k, k
		}
	}
	return kept, nil
}
