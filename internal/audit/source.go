package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

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

// File is an export to be read.
type File struct {
	path        string
	rows        *lines // where reading of rows is
	checkpoints *lines // where reading of checkpoints is
}

// OpenFile opens an export.
func OpenFile(path string) (*File, error) {
	f := &File{path: path}
	var err error
	if f.rows, err = openLines(path); err != nil {
		return nil, err
	}
	if f.checkpoints, err = openLines(path); err != nil {
		return nil, errors.Join(err, f.rows.Close())
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error { return errors.Join(f.rows.Close(), f.checkpoints.Close()) }

// Size is the number after the last entry's.
func (f *File) Size(context.Context) (uint64, error) {
	l, err := openLines(f.path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	size := uint64(0)
	for {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return 0, err
		}
		if line.Row != nil {
			size = max(size, line.Row.Seq+1)
		}
	}
}

// Rows gives entries as they stand in the file: in the file's order, so that one that is
// out of order is seen to be.
func (f *File) Rows(_ context.Context, from uint64, limit int) ([]Row, error) {
	if err := f.rows.seek(from); err != nil {
		return nil, err
	}
	var all []Row
	for len(all) < limit {
		line, err := f.rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if line.Row != nil && (line.Row.Seq >= from || len(all) > 0) {
			all = append(all, *line.Row)
			f.rows.at = line.Row.Seq + 1
		}
	}
	return all, nil
}

// Checkpoints gives checkpoints of at least a size, at most limit, in order.
func (f *File) Checkpoints(_ context.Context, from uint64, limit int) ([]Checkpoint, error) {
	if err := f.checkpoints.seek(from); err != nil {
		return nil, err
	}
	var all []Checkpoint
	for len(all) < limit {
		line, err := f.checkpoints.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if line.Checkpoint != nil && line.Checkpoint.Size >= from {
			all = append(all, *line.Checkpoint)
			f.checkpoints.at = line.Checkpoint.Size + 1
		}
	}
	return all, nil
}

// lines reads an export from its beginning, and again when asked for something before.
type lines struct {
	file *os.File
	r    *bufio.Reader
	n    int    // lines read
	at   uint64 // what has been read lies before this
}

func openLines(path string) (*lines, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &lines{file: f, r: bufio.NewReaderSize(f, 1<<16)}, nil
}

func (l *lines) Close() error { return l.file.Close() }

func (l *lines) seek(from uint64) error {
	if from >= l.at {
		return nil
	}
	_, err := l.file.Seek(0, io.SeekStart)
	l.r.Reset(l.file)
	l.n, l.at = 0, 0
	return err
}

func (l *lines) next() (Line, error) {
	b, err := l.r.ReadBytes('\n')
	if len(bytes.TrimSpace(b)) == 0 {
		if err == nil {
			return l.next()
		}
		return Line{}, err
	}
	l.n++
	line, err := ParseLine(b)
	if err != nil {
		return line, fmt.Errorf("line %d of the export: %w", l.n, err)
	}
	return line, nil
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
