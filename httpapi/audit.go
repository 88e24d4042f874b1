package httpapi

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/mintmark/mintmark/internal/audit"
)

// Checkpoints gives the audit log's last checkpoint; false before the first.
type Checkpoints interface {
	Latest() (audit.Checkpoint, bool)
}

// noteType is the media type of a checkpoint.
const noteType = "text/plain; charset=utf-8"

// GetCheckpoint is GET /v1/audit/checkpoint. A checkpoint says nothing but how much there
// is and what it hashes to: whoever keeps one can later hold the log against it.
func (s *server) GetCheckpoint(c *gin.Context, params GetCheckpointParams) {
	if params.Log != nil && *params.Log != "" {
		s.checkpointOf(c, *params.Log)
		return
	}
	k, ok := audit.Checkpoint{}, false
	if s.cfg.Checkpoints != nil {
		k, ok = s.cfg.Checkpoints.Latest()
	}
	if !ok {
		unavailable(5 * time.Second).write(c)
		return
	}
	publishCheckpoint(c, k)
}

// checkpointOf answers with the last checkpoint of a log that is named.
func (s *server) checkpointOf(c *gin.Context, log string) {
	if s.cfg.Published == nil {
		noCheckpoint.write(c)
		return
	}
	k, ok, err := s.cfg.Published.Of(c.Request.Context(), log)
	switch {
	case err != nil:
		s.fail(c, err)
	case !ok:
		noCheckpoint.write(c)
	default:
		publishCheckpoint(c, k)
	}
}

func publishCheckpoint(c *gin.Context, k audit.Checkpoint) {
	c.Header("Cache-Control", "max-age=1")
	c.Data(http.StatusOK, noteType, []byte(k.Note))
}

// AuditRoutes gives the audit logs on the admin listener. With the parameter log, a name or a
// number, each is about that log of the database, and without about the process's own:
//
//	GET /v1/audit/logs                         the logs of the database as JSON
//	GET /v1/audit                              size and last checkpoint as JSON
//	GET /v1/audit/checkpoint                   the last checkpoint, a signed note
//	GET /v1/audit/entries?from=N&limit=N       entries as JSON Lines, as in an export
//	GET /v1/audit/checkpoints?from=SIZE&limit=N  checkpoints of at least a size, as JSON Lines
//	GET /v1/audit/tile/L/N[.p/W]               tiles of the tree (https://c2sp.org/tlog-tiles)
//	GET /v1/audit/tile/entries/N[.p/W]         the leaves' data in bundles (the same)
func AuditRoutes(logs DatabaseLogs, own int, last Checkpoints, log *slog.Logger) func(gin.IRouter) {
	a := &auditRoutes{server: &server{log: log}, logs: logs, own: own, last: last}
	return func(r gin.IRouter) {
		g := r.Group("/v1/audit", oncePerParameter)
		g.GET("", a.state)
		g.GET("/logs", a.list)
		g.GET("/checkpoint", a.checkpoint)
		g.GET("/entries", a.entries)
		g.GET("/checkpoints", a.checkpoints)
		g.GET("/tile/*path", a.tile)
	}
}

type auditRoutes struct {
	*server // says what failed
	logs    DatabaseLogs
	own     int // the number of the log that this process writes
	last    Checkpoints
}

// maxLines bounds a request for entries or checkpoints.
const maxLines = 1000

// LogState is the body of GET /v1/audit.
type LogState struct {
	Log        int               `json:"log"`
	Size       uint64            `json:"size"`
	Checkpoint *audit.Checkpoint `json:"checkpoint,omitempty"`
}

func (a *auditRoutes) state(c *gin.Context) {
	number, ok := a.named(c)
	if !ok {
		return
	}
	ctx := c.Request.Context()
	size, err := a.logs.LogAt(number).Size(ctx)
	if err != nil {
		a.fail(c, err)
		return
	}
	body := LogState{Log: number, Size: size}
	k, ok, err := a.lastOf(ctx, number)
	if err != nil {
		a.fail(c, err)
		return
	}
	if ok {
		body.Checkpoint = &k
	}
	writeJSON(c, http.StatusOK, "application/json", body)
}

func (a *auditRoutes) checkpoint(c *gin.Context) {
	number, ok := a.named(c)
	if !ok {
		return
	}
	k, ok, err := a.lastOf(c.Request.Context(), number)
	if err != nil {
		a.fail(c, err)
		return
	}
	switch {
	case ok:
		c.Data(http.StatusOK, noteType, []byte(k.Note))
	case number == a.own: // which will have one
		unavailable(5 * time.Second).write(c)
	default:
		noCheckpoint.write(c)
	}
}

func (a *auditRoutes) entries(c *gin.Context) {
	if number, ok := a.named(c); ok {
		writeLines(a, c, a.logs.LogAt(number).Rows)
	}
}

func (a *auditRoutes) checkpoints(c *gin.Context) {
	if number, ok := a.named(c); ok {
		writeLines(a, c, a.logs.LogAt(number).Checkpoints)
	}
}

// writeLines answers with what a range holds, a line each.
func writeLines[T any](a *auditRoutes, c *gin.Context, read func(ctx context.Context, from uint64, limit int) ([]T, error)) {
	from, err := strconv.ParseUint(c.DefaultQuery("from", "0"), 10, 62)
	limit, err2 := strconv.Atoi(c.DefaultQuery("limit", "100"))
	if err != nil || err2 != nil || limit < 1 {
		malformed("from and limit must be whole numbers").write(c)
		return
	}
	all, err := read(c.Request.Context(), from, min(limit, maxLines))
	if err != nil {
		a.fail(c, err)
		return
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	for _, one := range all {
		if err := enc.Encode(one); err != nil {
			a.fail(c, err)
			return
		}
	}
	c.Data(http.StatusOK, "application/jsonl", []byte(b.String()))
}

// tileHeight is that of C2SP's tiles.
const tileHeight = 8

// errNoTile is returned for a tile that the tree does not have.
var errNoTile = errors.New("no such tile")

// tile answers with a tile or a bundle of entries.
func (a *auditRoutes) tile(c *gin.Context) {
	// Package tlog writes the height too, and calls the entries data.
	path := strings.Replace(strings.TrimPrefix(c.Param("path"), "/"), "entries/", "data/", 1)
	t, err := tlog.ParseTilePath(fmt.Sprintf("tile/%d/%s", tileHeight, path))
	if err != nil {
		notFound.write(c)
		return
	}
	number, ok := a.named(c)
	if !ok {
		return
	}
	body, err := readTile(c.Request.Context(), a.logs.LogAt(number), t)
	switch {
	case errors.Is(err, errNoTile):
		notFound.write(c)
	case err != nil:
		a.fail(c, err)
	default:
		c.Header("Cache-Control", "max-age=31536000, immutable")
		c.Data(http.StatusOK, "application/octet-stream", body)
	}
}

func readTile(ctx context.Context, log audit.Source, t tlog.Tile) ([]byte, error) {
	size, err := log.Size(ctx)
	if err != nil {
		return nil, err
	}
	level := max(t.L, 0)
	if t.L > 6 || t.N > int64(size)>>(tileHeight*level) || uint64(t.N<<tileHeight+int64(t.W)) > size>>(tileHeight*level) {
		return nil, errNoTile
	}
	if t.L < 0 {
		return bundle(ctx, log, uint64(t.N)<<tileHeight, t.W)
	}
	return tlog.ReadTileData(t, audit.HashReader(ctx, log))
}

// bundle gives leaves' data, each behind its length as two bytes.
func bundle(ctx context.Context, log audit.Source, from uint64, width int) ([]byte, error) {
	rows, err := log.Rows(ctx, from, width)
	if err != nil {
		return nil, err
	}
	if len(rows) != width {
		return nil, errNoTile
	}
	var b []byte
	for _, r := range rows {
		leaf := r.Leaf()
		b = binary.BigEndian.AppendUint16(b, uint16(len(leaf)))
		b = append(b, leaf...)
	}
	return b, nil
}
