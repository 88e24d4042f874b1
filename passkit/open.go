package passkit

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strings"
)

// ErrArchive is wrapped by every error about an archive.
var ErrArchive = errors.New("not an archive that a pass may have")

// limits bound what is read from an archive.
type limits struct {
	archive int64 // bytes of the archive
	entries int   // files and folders
	file    int64 // bytes of one file
	total   int64 // bytes of all files
}

// passLimits are far above what is seen: passes have some 100 KB in some 30 files.
var passLimits = limits{archive: 32 << 20, entries: 512, file: 16 << 20, total: 48 << 20}

// A file may be at most maxRatio times as large as its compressed form, and freeSize
// more. Deflate can reach 1032.
const (
	maxRatio = 200
	freeSize = 1 << 20
)

// Open reads a .pkpass into a bundle, manifest and signature with the rest. It checks
// the archive and nothing that is in it. Refused are names that leave the folder, stand
// twice or differ in case only; links and other special entries; encryption; more than
// the bounds allow, found while inflating; and bytes that belong to no entry.
func Open(pkpass []byte) (*Bundle, error) {
	files, err := readArchive(pkpass, passLimits)
	if err != nil {
		return nil, err
	}
	return &Bundle{Files: files}, nil
}

func refuseArchive(format string, values ...any) error {
	return fmt.Errorf("%w: %s", ErrArchive, fmt.Sprintf(format, values...))
}

// readArchive gives the files by name.
func readArchive(b []byte, l limits) (map[string][]byte, error) {
	if int64(len(b)) > l.archive {
		return nil, refuseArchive("larger than %d MiB", l.archive>>20)
	}
	directory, err := directoryOffset(b)
	if err != nil {
		return nil, err
	}
	r, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, refuseArchive("its directory is damaged")
	}
	if len(r.File) > l.entries {
		return nil, refuseArchive("more than %d entries", l.entries)
	}
	names := newNameSet()
	for _, f := range r.File {
		if err := checkEntry(f, names, l); err != nil {
			return nil, err
		}
	}
	if err := checkLayout(b, r.File, directory); err != nil {
		return nil, err
	}
	files, total := make(map[string][]byte, len(r.File)), int64(0)
	for _, f := range r.File {
		if strings.HasSuffix(f.Name, "/") {
			continue
		}
		content, err := inflate(f, min(l.file, l.total-total))
		if err != nil {
			return nil, err
		}
		total += int64(len(content))
		files[f.Name] = content
	}
	return files, nil
}

const (
	endLength   = 22 // end of central directory record, without a comment
	localLength = 30 // local file header, without name and extra field
)

// directoryOffset finds the central directory. The end record must be the last bytes:
// a comment could hold a second one, and readers differ in which they take.
func directoryOffset(b []byte) (int64, error) {
	if len(b) < endLength || string(b[len(b)-endLength:][:4]) != "PK\x05\x06" {
		return 0, refuseArchive("it does not end with its directory: it is cut off, something follows it, or it is no ZIP archive")
	}
	end := b[len(b)-endLength:]
	size, offset := int64(binary.LittleEndian.Uint32(end[12:])), int64(binary.LittleEndian.Uint32(end[16:]))
	if binary.LittleEndian.Uint16(end[20:]) != 0 || offset+size != int64(len(b)-endLength) {
		return 0, refuseArchive("bytes stand before or after its directory")
	}
	return offset, nil
}

// checkEntry checks what the directory says of an entry.
func checkEntry(f *zip.File, names nameSet, l limits) error {
	name, folder := strings.CutSuffix(f.Name, "/")
	if folder {
		if err := names.addFolder(name); err != nil {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
	} else if err := names.add(name); err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	mode := f.Mode()
	switch {
	case folder && (f.UncompressedSize64 != 0 || f.CompressedSize64 > 2): // an empty stream of deflate has two bytes
		return refuseArchive("a folder has content")
	case !folder && mode&fs.ModeType != 0, folder && mode&fs.ModeType&^fs.ModeDir != 0:
		return refuseArchive("an entry is a link or another special file")
	case f.Flags&(1|1<<6|1<<13) != 0:
		return refuseArchive("an entry is encrypted")
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return refuseArchive("an entry is compressed in another way than deflate")
	case f.UncompressedSize64 > uint64(l.file), f.CompressedSize64 > uint64(l.archive):
		return refuseArchive("a file is larger than %d MiB", l.file>>20)
	case f.UncompressedSize64 > freeSize+f.CompressedSize64*maxRatio:
		return refuseArchive("a file is compressed more than %d to 1", maxRatio)
	}
	return nil
}

// checkLayout walks the local headers from the first byte to the directory. Each must
// say the same as the directory, and no byte may be between them: so there is no entry
// that only some readers see, no two share their bytes, and nothing is hidden.
func checkLayout(b []byte, files []*zip.File, directory int64) error {
	byData := make(map[int64]*zip.File, len(files))
	for _, f := range files {
		at, err := f.DataOffset()
		if err != nil || at > directory || byData[at] != nil {
			return refuseArchive("entries overlap or lie outside")
		}
		byData[at] = f
	}
	at := int64(0)
	for range files {
		if directory-at < localLength {
			return refuseArchive("entries overlap or lie outside")
		}
		h := b[at:directory]
		if string(h[:4]) != "PK\x03\x04" {
			return refuseArchive("bytes stand between its entries")
		}
		name := int64(binary.LittleEndian.Uint16(h[26:]))
		data := at + localLength + name + int64(binary.LittleEndian.Uint16(h[28:]))
		f := byData[data]
		if f == nil || string(h[localLength:localLength+name]) != f.Name ||
			f.CompressedSize64 > uint64(directory-data) || !agrees(h, f) {
			return refuseArchive("an entry and the directory differ")
		}
		at = data + int64(f.CompressedSize64)
		if f.Flags&8 != 0 {
			at += descriptorLength(b[at:directory], f)
		}
	}
	if at != directory {
		return refuseArchive("bytes stand between its entries")
	}
	return nil
}

// agrees compares a local header with the directory.
func agrees(h []byte, f *zip.File) bool {
	const streamed = 8 // sizes follow the data
	flags := binary.LittleEndian.Uint16(h[6:])
	if flags&(1|streamed) != f.Flags&(1|streamed) || binary.LittleEndian.Uint16(h[8:]) != f.Method {
		return false
	}
	return flags&streamed != 0 ||
		uint64(binary.LittleEndian.Uint32(h[18:])) == f.CompressedSize64 &&
			uint64(binary.LittleEndian.Uint32(h[22:])) == f.UncompressedSize64
}

// descriptorLength is how long the sizes behind an entry are: with or without a mark of
// their own, in 32 or 64 bits. It is 0 if none of the four forms is there.
func descriptorLength(b []byte, f *zip.File) int64 {
	le := binary.LittleEndian
	for _, mark := range []string{"PK\x07\x08", ""} {
		start := le.AppendUint32([]byte(mark), f.CRC32)
		short := le.AppendUint32(le.AppendUint32(bytes.Clone(start), uint32(f.CompressedSize64)), uint32(f.UncompressedSize64))
		long := le.AppendUint64(le.AppendUint64(bytes.Clone(start), f.CompressedSize64), f.UncompressedSize64)
		for _, form := range [][]byte{long, short} { // an empty entry's short form begins the long one
			if bytes.HasPrefix(b, form) {
				return int64(len(form))
			}
		}
	}
	return 0
}

// inflate gives an entry's content. The size that the entry claims is held, and so is
// most; the compressed bytes must be used up.
func inflate(f *zip.File, most int64) ([]byte, error) {
	raw, err := f.OpenRaw()
	if err != nil {
		return nil, refuseArchive("entries overlap or lie outside")
	}
	size := int64(f.UncompressedSize64)
	if size > most {
		return nil, refuseArchive("its files are too large together")
	}
	packed, err := io.ReadAll(raw)
	if err != nil {
		return nil, refuseArchive("entries overlap or lie outside")
	}
	content := packed
	if f.Method == zip.Deflate {
		rest := bytes.NewReader(packed)
		r := flate.NewReader(rest)
		content, err = io.ReadAll(io.LimitReader(r, size+1))
		if err == nil && int64(len(content)) == size {
			var extra [1]byte // reads the end of the stream
			if n, end := r.Read(extra[:]); n != 0 || end != io.EOF {
				err = errDeflate
			}
		}
		if err != nil || rest.Len() > 0 {
			return nil, refuseArchive("an entry's compressed bytes are damaged, or more than its content needs")
		}
	}
	if int64(len(content)) != size || crc32.ChecksumIEEE(content) != f.CRC32 {
		return nil, refuseArchive("an entry is damaged: size or check sum differ")
	}
	return content, nil
}

var errDeflate = errors.New("deflate stream does not end")
