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

// Last gives the last checkpoint in the file; false if there is none.
func (f *FileAnchor) Last() (Checkpoint, bool, error) {
	file, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, false, nil
	}
	if err != nil {
		return Checkpoint{}, false, err
	}
	defer func() { _ = file.Close() }()
	return LastAnchored(file)
}

// maxAnchorLine bounds a line of an anchor's file.
const maxAnchorLine = 1 << 16

// LastAnchored reads what an anchor has kept and gives the largest checkpoint in it. It
// takes a file anchor's lines, lines of a log that a syslog anchor wrote to, what a
// webhook was sent, and a single signed note. False says that there is none.
func LastAnchored(r io.Reader) (Checkpoint, bool, error) {
	var best Checkpoint
	found := false
	b, err := io.ReadAll(r)
	if err != nil {
		return best, false, err
	}
	if c, err := ParseCheckpoint(string(b)); err == nil {
		return c, true, nil
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxAnchorLine)
	for n := 1; lines.Scan(); n++ {
		_, object, ok := strings.Cut(lines.Text(), "{")
		if !ok {
			continue
		}
		var c Checkpoint
		if err := json.NewDecoder(strings.NewReader("{" + object)).Decode(&c); err != nil {
			continue // another line of a log, or half a line
		}
		if !found || c.Size > best.Size {
			best, found = c, true
		}
	}
	if err := lines.Err(); err != nil {
		return best, found, fmt.Errorf("read anchor: %w", err)
	}
	return best, found, nil
}
