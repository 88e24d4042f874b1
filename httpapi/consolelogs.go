package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/internal/audit"
)

// A consoleLog is the log of the database that a page is about.
type consoleLog struct {
	audit.Source
	// Called is how an address of the console names it: empty for the process's own.
	Called string
	Number int
	Name   string // what it is called in words
	// All are the logs of the database, for pages to choose from; nil where there is one.
	All    []consoleChoice
	Last   audit.Checkpoint
	Signed bool // whether there is a last checkpoint
}

// A consoleChoice is a log that can be chosen.
type consoleChoice struct {
	Called, Name string
	Chosen       bool
}

// logName is what a log is called on pages.
func (h *console) logName(l audit.LogInfo) string {
	if l.Number == h.cfg.OwnLog {
		return l.String() + ", of this process"
	}
	return l.String()
}

// askedLog gives the log that the parameter log names, or the process's own; false if it has
// answered.
func (h *console) askedLog(c *gin.Context) (consoleLog, bool) {
	ctx := c.Request.Context()
	called := c.Query("log")
	if called == "" {
		called = strconv.Itoa(h.cfg.OwnLog)
	}
	all, err := h.cfg.Logs.Logs(ctx)
	if err != nil {
		h.failPage(c, err)
		return consoleLog{}, false
	}
	at, ok := audit.FindLog(all, called)
	if !ok {
		h.problemPage(c, problem{status: http.StatusNotFound, name: "no-such-resource", title: "No such log", detail: "The database has no log of this name."})
		return consoleLog{}, false
	}
	l := consoleLog{Source: h.cfg.Logs.LogAt(at.Number), Number: at.Number, Name: h.logName(at)}
	if at.Number != h.cfg.OwnLog {
		l.Called = at.String()
	}
	if len(all) > 1 {
		for _, one := range all {
			l.All = append(l.All, consoleChoice{one.String(), h.logName(one), one.Number == at.Number})
		}
	}
	if l.Last, l.Signed, err = h.audit.lastOf(ctx, at.Number); err != nil {
		h.failPage(c, err)
		return consoleLog{}, false
	}
	return l, true
}

// file is the beginning of the names under which parts of the log are kept.
func (l consoleLog) file() string {
	if l.Called == "" {
		return ""
	}
	return fmt.Sprintf("log-%d-", l.Number)
}

// A consoleLogState is how far a log is.
type consoleLogState struct {
	audit.LogInfo
	Own    bool
	Size   uint64
	Last   audit.Checkpoint
	Signed bool
}

// logStates gives all logs of a database that has several; an error where it does not answer
// in the time of a check.
func (h *console) logStates(ctx context.Context) ([]consoleLogState, error) {
	ctx, cancel := context.WithTimeout(ctx, checkWithin)
	defer cancel()
	all, err := h.cfg.Logs.Logs(ctx)
	if err != nil || len(all) < 2 {
		return nil, err
	}
	states := make([]consoleLogState, 0, len(all))
	for _, l := range all {
		s := consoleLogState{LogInfo: l, Own: l.Number == h.cfg.OwnLog}
		var sizeErr, lastErr error
		s.Size, sizeErr = h.cfg.Logs.LogAt(l.Number).Size(ctx)
		s.Last, s.Signed, lastErr = h.audit.lastOf(ctx, l.Number)
		if err := errors.Join(sizeErr, lastErr); err != nil {
			return nil, err
		}
		states = append(states, s)
	}
	return states, nil
}
