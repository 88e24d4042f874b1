package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// FileAnchor appends checkpoints to a file, a line of JSON each, and waits until they are
// on the disk. It is as far from the host as the file is: on storage that only appends
// it shows a rollback, on the host's own disk it goes back with the rest.
type FileAnchor struct{ Path string }

// Name is "file" and the path.
func (f *FileAnchor) Name() string { return "file " + f.Path }

// Keep appends a checkpoint.
func (f *FileAnchor) Keep(_ context.Context, c Checkpoint) error {
	file, err := os.OpenFile(f.Path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	line, err := json.Marshal(c)
	if err == nil {
		line = append(line, '\n')
		if !endsLine(file) { // a crash left half a line
			line = append([]byte{'\n'}, line...)
		}
		_, err = file.Write(line)
	}
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func endsLine(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return true
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] == '\n'
}

// Kept gives all checkpoints in the file, as they follow each other; none if there is no
// file.
func (f *FileAnchor) Kept() ([]Checkpoint, error) {
	file, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return Anchored(file)
}

// maxAnchorLine bounds a line of an anchor's file.
const maxAnchorLine = 1 << 16

// Anchored reads what an anchor has kept: each checkpoint once, as they follow each other.
// All of them count: the largest alone may be of a history that replaced the one before.
// It takes a file anchor's lines, lines of a log that a syslog anchor wrote to, what a
// webhook was sent, and a single signed note.
func Anchored(r io.Reader) ([]Checkpoint, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if c, err := ParseCheckpoint(string(b)); err == nil {
		return []Checkpoint{c}, nil
	}
	var all []Checkpoint
	seen := map[string]bool{} // by note
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxAnchorLine)
	for lines.Scan() {
		_, object, ok := strings.Cut(lines.Text(), "{")
		if !ok {
			continue
		}
		var c Checkpoint
		if err := json.NewDecoder(strings.NewReader("{" + object)).Decode(&c); err != nil {
			continue // another line of a log, or half a line
		}
		if !seen[c.Note] {
			seen[c.Note] = true
			all = append(all, c)
		}
	}
	if err := lines.Err(); err != nil {
		return all, fmt.Errorf("read anchor: %w", err)
	}
	return all, nil
}
