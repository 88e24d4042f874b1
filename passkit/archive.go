package passkit

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"fmt"
	"hash/crc32"
	"maps"
	"path"
	"slices"
	"sync"
	"time"
)

// compressors keeps flate.Writers, each of which has about 1 MB of tables.
var compressors = sync.Pool{New: func() any {
	w, err := flate.NewWriter(nil, flate.DefaultCompression)
	if err != nil {
		panic("passkit: the default compression level is none")
	}
	return w
}}

// writeArchive makes a ZIP archive of the files, sorted by name, all with the time now
// in UTC (the zero time counts as the format's first, 1980). Sizes stand in front of
// each entry and not behind it: readers that do not seek cannot skip a stored entry
// otherwise.
func writeArchive(files map[string][]byte, now time.Time) ([]byte, error) {
	var out bytes.Buffer
	w, names := zip.NewWriter(&out), newNameSet()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := names.add(name); err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
		if err := writeEntry(w, name, files[name], now); err != nil {
			return nil, fmt.Errorf("write archive: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write archive: %w", err)
	}
	return out.Bytes(), nil
}

func writeEntry(w *zip.Writer, name string, content []byte, now time.Time) error {
	header := &zip.FileHeader{
		Name:               name,
		Method:             zip.Store,
		CRC32:              crc32.ChecksumIEEE(content),
		UncompressedSize64: uint64(len(content)),
		Flags:              0x800, // names are UTF-8
		CreatorVersion:     20,    // ZIP 2.0, and no permissions
		ReaderVersion:      20,
	}
	//lint:ignore SA1019 CreateRaw writes the header as it is and does not look at Modified
	header.ModifiedDate, header.ModifiedTime = dosTime(now)
	packed := content
	if compressible(name) {
		smaller, err := deflate(content)
		if err != nil {
			return err
		}
		if len(smaller) < len(content) {
			header.Method, packed = zip.Deflate, smaller
		}
	}
	header.CompressedSize64 = uint64(len(packed))
	entry, err := w.CreateRaw(header)
	if err != nil {
		return err
	}
	_, err = entry.Write(packed)
	return err
}

// compressible says no to what is compressed already.
func compressible(name string) bool {
	switch path.Ext(name) {
	case ".png", ".pdf", ".pkpass":
		return false
	}
	return true
}

func deflate(content []byte) ([]byte, error) {
	var out bytes.Buffer
	w := compressors.Get().(*flate.Writer)
	defer compressors.Put(w)
	w.Reset(&out)
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// dosTime is a time as ZIP writes it: in steps of two seconds, from 1980 to 2107.
func dosTime(t time.Time) (date, clock uint16) {
	t = t.UTC()
	if first := time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC); t.Before(first) {
		t = first
	}
	if last := time.Date(2107, 12, 31, 23, 59, 58, 0, time.UTC); t.After(last) {
		t = last
	}
	return uint16(t.Day() + int(t.Month())<<5 + (t.Year()-1980)<<9),
		uint16(t.Second()/2 + t.Minute()<<5 + t.Hour()<<11)
}
