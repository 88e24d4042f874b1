package audit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"
)

// Source is a log to be read: a database, an export, or a running server.
type Source interface {
	// Size is the number of entries.
	Size(ctx context.Context) (uint64, error)
	// Rows gives entries from sequence number from on, at most limit, in order.
	Rows(ctx context.Context, from uint64, limit int) ([]Row, error)
	// Checkpoints gives checkpoints of at least a size, at most limit, in order.
	Checkpoints(ctx context.Context, from uint64, limit int) ([]Checkpoint, error)
}

// page is how many rows or checkpoints are read at once.
const page = 1000

// Export writes a log as JSON Lines: the entries in order, and each checkpoint behind the
// last entry that it covers. What comes meanwhile is left for the next export.
func Export(ctx context.Context, s Source, w io.Writer) error {
	size, err := s.Size(ctx)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	x := exporter{enc: enc, checkpoints: checkpointPages{source: s}}
	err = Each(ctx, s, 0, func(r Row) error {
		if r.Seq >= size {
			return io.EOF
		}
		if err := x.upTo(ctx, r.Seq); err != nil {
			return err
		}
		return enc.Encode(r)
	})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := x.upTo(ctx, size); err != nil {
		return err
	}
	return out.Flush()
}

// ExportAll writes the logs of a database one after the other, each as Export does, behind a
// line that says which it is. The one log of a database that has one goes without the line.
func ExportAll(ctx context.Context, source Logs, w io.Writer) error {
	logs, err := source.Logs(ctx)
	if err != nil {
		return err
	}
	for _, l := range logs {
		if len(logs) > 1 || l.Number != 0 {
			if err := json.NewEncoder(w).Encode(l); err != nil {
				return err
			}
		}
		if err := Export(ctx, source.LogAt(l.Number), w); err != nil {
			return err
		}
	}
	return nil
}

// exporter writes checkpoints between entries.
type exporter struct {
	enc         *json.Encoder
	checkpoints checkpointPages
	next        *Checkpoint
}

// upTo writes the checkpoints that cover no more than size entries.
func (x *exporter) upTo(ctx context.Context, size uint64) error {
	for {
		if x.next == nil {
			var err error
			if x.next, err = x.checkpoints.next(ctx); err != nil || x.next == nil {
				return err
			}
		}
		if x.next.Size > size {
			return nil
		}
		if err := x.enc.Encode(x.next); err != nil {
			return err
		}
		x.next = nil
	}
}

// checkpointPages reads a source's checkpoints one after the other.
type checkpointPages struct {
	source Source
	from   uint64
	got    []Checkpoint
}

// next gives the next checkpoint; nil when there is none at the moment.
func (p *checkpointPages) next(ctx context.Context) (*Checkpoint, error) {
	if len(p.got) == 0 {
		var err error
		if p.got, err = p.source.Checkpoints(ctx, p.from, page); err != nil || len(p.got) == 0 {
			return nil, err
		}
	}
	c := p.got[0]
	if c.Size < p.from { // or reading would never end
		return nil, fmt.Errorf("checkpoint %d was given for those from %d on", c.Size, p.from)
	}
	p.got, p.from = p.got[1:], c.Size+1
	return &c, nil
}

// errNoHash is of an entry that is not there, or not with all its hashes.
var errNoHash = errors.New("entry, or its hashes, are missing")

// HashReader reads stored hashes from any source.
func HashReader(ctx context.Context, s Source) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var all []tlog.Hash
		for _, index := range indexes {
			seq, at := StoredAt(index)
			rows, err := s.Rows(ctx, seq, 1)
			if err != nil {
				return nil, err
			}
			if len(rows) == 0 || rows[0].Seq != seq || at >= len(rows[0].Hashes) {
				return nil, fmt.Errorf("entry %d: %w", seq, errNoHash)
			}
			all = append(all, rows[0].Hashes[at])
		}
		return all, nil
	})
}
