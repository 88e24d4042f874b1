package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// File is an export to be read: of one log, or of several, one after the other.
type File struct {
	*FileLog // all of it
	logs     []*FileLog
}

// FileLog is one log of an export.
type FileLog struct {
	info        LogInfo
	part        part
	rows        *lines // where reading of rows is
	checkpoints *lines // where reading of checkpoints is
}

// part is where in a file a log is.
type part struct {
	path     string
	from, to int64
	line     int // of from
}

// OpenFile opens an export.
func OpenFile(path string) (*File, error) {
	parts, infos, err := partsOf(path)
	if err != nil {
		return nil, err
	}
	f := &File{}
	if f.FileLog, err = openPart(part{path, 0, math.MaxInt64, 0}, LogInfo{}); err != nil {
		return nil, err
	}
	for i, p := range parts {
		l, err := openPart(p, infos[i])
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		f.logs = append(f.logs, l)
	}
	return f, nil
}

// partsOf finds the logs of an export: each begins with the line that says which it is, and
// one without such a line is log 0.
func partsOf(path string) (parts []part, infos []LogInfo, err error) {
	l, err := openLines(part{path, 0, math.MaxInt64, 0})
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = l.Close() }()
	for at := int64(0); ; {
		b, err := l.r.ReadBytes('\n')
		if bytes.HasPrefix(b, []byte(logLine)) || len(parts) == 0 {
			line, err := ParseLine(b)
			if err == nil && line.Log != nil {
				if len(parts) != 0 {
					parts[len(parts)-1].to = at
				}
				parts, infos = append(parts, part{path, at + int64(len(b)), math.MaxInt64, l.n + 1}), append(infos, *line.Log)
			} else if len(parts) == 0 {
				parts, infos = append(parts, part{path, 0, math.MaxInt64, 0}), append(infos, LogInfo{})
			}
		}
		at += int64(len(b))
		l.n++
		if errors.Is(err, io.EOF) {
			return parts, infos, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

func openPart(p part, info LogInfo) (*FileLog, error) {
	f := &FileLog{info: info, part: p}
	var err error
	if f.rows, err = openLines(p); err != nil {
		return nil, err
	}
	if f.checkpoints, err = openLines(p); err != nil {
		return nil, errors.Join(err, f.rows.Close())
	}
	return f, nil
}

// Close closes the file.
func (f *File) Close() error {
	err := f.FileLog.close()
	for _, l := range f.logs {
		err = errors.Join(err, l.close())
	}
	return err
}

func (f *FileLog) close() error { return errors.Join(f.rows.Close(), f.checkpoints.Close()) }

// Logs gives the logs of the export as they follow each other.
func (f *File) Logs(context.Context) ([]LogInfo, error) {
	var all []LogInfo
	for _, l := range f.logs {
		all = append(all, l.info)
	}
	return all, nil
}

// LogAt gives one of them.
func (f *File) LogAt(number int) Source {
	for _, l := range f.logs {
		if l.info.Number == number {
			return l
		}
	}
	return f.FileLog // whoever asks has the number from Logs
}

// Size is the number after the last entry's.
func (f *FileLog) Size(context.Context) (uint64, error) {
	l, err := openLines(f.part)
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
func (f *FileLog) Rows(_ context.Context, from uint64, limit int) ([]Row, error) {
	f.rows.seek(from)
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
func (f *FileLog) Checkpoints(_ context.Context, from uint64, limit int) ([]Checkpoint, error) {
	f.checkpoints.seek(from)
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
	part part
	r    *bufio.Reader
	n    int    // lines read
	at   uint64 // what has been read lies before this
}

func openLines(p part) (*lines, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, err
	}
	l := &lines{file: f, part: p, r: bufio.NewReaderSize(nil, 1<<16)}
	l.rewind()
	return l, nil
}

func (l *lines) rewind() {
	l.r.Reset(io.NewSectionReader(l.file, l.part.from, l.part.to-l.part.from))
	l.n, l.at = l.part.line, 0
}

func (l *lines) Close() error { return l.file.Close() }

func (l *lines) seek(from uint64) {
	if from < l.at {
		l.rewind()
	}
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
