package passkit_test

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
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mintmark/mintmark/passkit"
)

// archive writes entries as another tool would: sizes behind the data.
func archive(entries ...*zip.FileHeader) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, e := range entries {
		content := []byte("content of " + e.Name)
		if strings.HasSuffix(e.Name, "/") {
			content = nil
		}
		must(must(w.CreateHeader(e)).Write(content))
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func named(names ...string) (entries []*zip.FileHeader) {
	for _, n := range names {
		entries = append(entries, &zip.FileHeader{Name: n, Method: zip.Deflate})
	}
	return entries
}

// special is an entry with the mode of a link or device.
func special(mode fs.FileMode) *zip.FileHeader {
	h := &zip.FileHeader{Name: "icon.png"}
	h.SetMode(mode)
	return h
}

// raw writes one entry with exactly this header and data.
func raw(h *zip.FileHeader, data []byte) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	must(must(w.CreateRaw(h)).Write(data))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func deflated(content []byte) []byte {
	var out bytes.Buffer
	w := must(flate.NewWriter(&out, flate.BestSpeed))
	must(w.Write(content))
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// claiming is an entry of deflated content that says it has size bytes.
func claiming(content []byte, size int, after ...byte) []byte {
	data := append(deflated(content), after...)
	return raw(&zip.FileHeader{
		Name: "pass.json", Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(content),
		CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(size),
	}, data)
}

// patched changes the first occurrence of a text.
func patched(b []byte, from, to string) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }

// shifted puts bytes at an offset of an archive and corrects what the end record says
// of the directory, and the directory of entries behind it.
func shifted(b []byte, at int, extra []byte) []byte {
	out := append(append(bytes.Clone(b[:at]), extra...), b[at:]...)
	end := len(out) - 22
	old := binary.LittleEndian.Uint32(out[end+16:])
	binary.LittleEndian.PutUint32(out[end+16:], old+uint32(len(extra)))
	for p := int(old) + len(extra); p < end; {
		if offset := binary.LittleEndian.Uint32(out[p+42:]); int(offset) >= at {
			binary.LittleEndian.PutUint32(out[p+42:], offset+uint32(len(extra)))
		}
		p += 46 + int(binary.LittleEndian.Uint16(out[p+28:])) + int(binary.LittleEndian.Uint16(out[p+30:])) + int(binary.LittleEndian.Uint16(out[p+32:]))
	}
	return out
}

// sharing makes the second entry of the directory point at the first's data.
func sharing(b []byte) []byte {
	out := bytes.Clone(b)
	directory := int(binary.LittleEndian.Uint32(out[len(out)-22+16:]))
	second := directory + bytes.Index(out[directory+4:], []byte("PK\x01\x02")) + 4
	binary.LittleEndian.PutUint32(out[second+42:], 0)
	return out
}

// noise is content that deflate makes about fifty times smaller.
func noise(size int) []byte {
	r, out := rand.New(rand.NewPCG(1, 2)), make([]byte, 0, size+256)
	for len(out) < size {
		out = append(out, bytes.Repeat([]byte{byte(r.Uint32())}, 100)...)
	}
	return out[:size]
}

// several writes the same content under many names.
func several(n int, content []byte) []byte {
	var out bytes.Buffer
	w, data := zip.NewWriter(&out), deflated(content)
	for i := range n {
		h := &zip.FileHeader{Name: fmt.Sprint(i), Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(content),
			CompressedSize64: uint64(len(data)), UncompressedSize64: uint64(len(content))}
		must(must(w.CreateRaw(h)).Write(data))
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func TestHostileArchivesAreRefused(t *testing.T) {
	good := archive(named("icon.png", "pass.json")...)
	second := bytes.LastIndex(good, []byte("PK\x03\x04"))
	for _, c := range []struct {
		name    string
		archive []byte
		why     string
	}{
		{"a name that climbs", archive(named("../pass.json")...), ".. part"},
		{"a name that climbs further on", archive(named("de.lproj/../../pass.json")...), ".. part"},
		{"a folder that climbs", archive(named("../")...), ".. part"},
		{"an absolute name", archive(named("/pass.json")...), "absolute"},
		{"a backslash", archive(named(`de.lproj\..\..\x`)...), "backslash"},
		{"a drive", archive(named("C:pass.json")...), "colon"},
		{"an empty part", archive(named("a//b")...), "empty"},
		{"a dot part", archive(named("./pass.json")...), ". or .."},
		{"a control character", archive(named("pass\n.json")...), "printed"},
		{"a name that is not UTF-8", archive(named("pass\xff.json")...), "UTF-8"},
		{"a name of combining marks", archive(named("e\u0301.png")...), "combining"},
		{"a long name", archive(named(strings.Repeat("x", 300))...), "longer"},
		{"a name twice", archive(named("icon.png", "icon.png")...), "twice"},
		{"names that differ in case", archive(named("icon.png", "Icon.PNG")...), "case only"},
		{"names that Unicode folds together", archive(named("k.png", "\u212a.png")...), "case only"},
		{"folders that differ in case", archive(named("de.lproj/a", "DE.lproj/b")...), "case only"},
		{"a file that is a folder", archive(named("de.lproj", "de.lproj/a")...), "is a file"},
		{"a folder that is a file", archive(named("de.lproj/a", "de.lproj")...), "twice"},
		{"a symbolic link", archive(special(fs.ModeSymlink | 0o777)), "link"},
		{"a device", archive(special(fs.ModeDevice | 0o666)), "special"},
		{"a pipe", archive(special(fs.ModeNamedPipe | 0o666)), "special"},
		{"too many entries", several(513, nil), "more than 512"},
		{"a bomb", claiming(make([]byte, 10<<20), 10<<20), "200 to 1"},
		{"a bomb that claims to be small", claiming(make([]byte, 10<<20), 100), "more than its content"},
		{"an entry shorter than it claims", claiming(make([]byte, 10), 100), "size or check sum"},
		{"a large file", claiming(nil, 17<<20), "larger than 16 MiB"},
		{"many large files", several(5, noise(10<<20)), "together"},
		{"bytes behind a deflate stream", claiming([]byte("x"), 1, 'j', 'u', 'n', 'k'), "more than its content"},
		{"a damaged check sum", patched(archive(&zip.FileHeader{Name: "a", Method: zip.Store}), "content", "kontent"), "size or check sum"},
		{"an unknown compression", raw(&zip.FileHeader{Name: "a", Method: 12}, nil), "another way than deflate"},
		{"encryption", raw(&zip.FileHeader{Name: "a", Flags: 1}, nil), "encrypted"},
		{"bytes after the end", append(bytes.Clone(good), "junk"...), "something follows"},
		{"a second archive after it", append(bytes.Clone(good), good...), "before or after"},
		{"bytes before the first entry", shifted(good, 0, []byte("junk")), "between its entries"},
		{"bytes between entries", shifted(good, second, []byte("junk")), "between its entries"},
		{"an entry that the directory does not have", shifted(good, second, good[:second]), "differ"},
		{"two names for the same bytes", sharing(good), "overlap"},
		{"a name that the directory has otherwise", patched(good, "icon.png", "ikon.png"), "differ"},
		{"an end that is cut off", good[:len(good)-1], "does not end"},
		{"nothing", nil, "does not end"},
		{"something else", []byte(strings.Repeat("not an archive", 10)), "does not end"},
		{"an archive that is too large", make([]byte, 32<<20+1), "larger than 32 MiB"},
	} {
		b, err := passkit.Open(c.archive)
		if b != nil || !errors.Is(err, passkit.ErrArchive) {
			t.Errorf("%s: not refused: %v", c.name, err)
		} else if !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v, want %q", c.name, err, c.why)
		}
	}
}

func TestAnArchiveWithACommentIsRefused(t *testing.T) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	must(must(w.Create("pass.json")).Write([]byte("{}")))
	if err := w.SetComment("a comment"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := passkit.Open(out.Bytes()); !errors.Is(err, passkit.ErrArchive) {
		t.Error(err)
	}
}

func TestArchivesOfOtherToolsAreRead(t *testing.T) {
	want := map[string]string{
		"pass.json": "content of pass.json", "de.lproj/pass.strings": "content of de.lproj/pass.strings", "straße.txt": "content of straße.txt",
	}
	check := func(t *testing.T, b []byte) {
		t.Helper()
		bundle, err := passkit.Open(b)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for name, content := range bundle.Files {
			got[name] = string(content)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	t.Run("sizes behind the data, folders, deflated and stored", func(t *testing.T) {
		entries := named("de.lproj/", "pass.json", "de.lproj/pass.strings", "straße.txt")
		entries[2].Method = zip.Store
		check(t, archive(entries...))
	})
	t.Run("Info-ZIP", func(t *testing.T) {
		tool, err := exec.LookPath("zip")
		if err != nil {
			t.Skip("zip is not installed")
		}
		dir := t.TempDir()
		for name, content := range want {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(tool, "-r", "../out.zip", ".")
		if cmd.Dir = dir; dir != "" {
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s", out)
			}
		}
		check(t, must(os.ReadFile(filepath.Join(dir, "../out.zip"))))
	})
}

func TestAnArchiveIsSortedDatedAndNeedsNoSeeking(t *testing.T) {
	pkpass := must(bundle(t, passkit.EventTicket).Sign(rsaSigner(), noon))
	r := must(zip.NewReader(bytes.NewReader(pkpass), int64(len(pkpass))))
	last := ""
	for _, f := range r.File {
		if f.Name <= last {
			t.Errorf("%s after %s", f.Name, last)
		}
		last = f.Name
		if !f.Modified.Equal(noon) {
			t.Errorf("%s is dated %v", f.Name, f.Modified)
		}
		if f.Flags&8 != 0 {
			t.Errorf("%s has its sizes behind the data", f.Name)
		}
		if stored := f.Method == zip.Store; stored != (strings.HasSuffix(f.Name, ".png") || f.CompressedSize64 == f.UncompressedSize64) {
			t.Errorf("%s is compressed with method %d", f.Name, f.Method)
		}
		content := must(io.ReadAll(must(f.Open())))
		if len(content) == 0 {
			t.Errorf("%s is empty", f.Name)
		}
	}
	for _, at := range []time.Time{{}, time.Date(2300, 1, 1, 0, 0, 0, 0, time.UTC)} {
		b := must(bundle(t, passkit.Generic).Build(at))
		if _, err := passkit.Open(b); err != nil {
			t.Errorf("%v: %v", at, err)
		}
	}
}

func TestOtherToolsReadTheArchive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "card.pkpass")
	if err := os.WriteFile(path, must(bundle(t, passkit.StoreCard).Sign(rsaSigner(), noon)), 0o600); err != nil {
		t.Fatal(err)
	}
	tool, err := exec.LookPath("unzip")
	if err != nil {
		t.Skip("unzip is not installed")
	}
	if out, err := exec.Command(tool, "-t", path).CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}

func TestSeveralPassesInOneFile(t *testing.T) {
	one := must(bundle(t, passkit.Generic).Sign(rsaSigner(), noon))
	two := must(bundle(t, passkit.Coupon).Sign(rsaSigner(), noon))
	together, err := passkit.PackPasses([][]byte{one, two}, noon)
	if err != nil {
		t.Fatal(err)
	}
	bundles, err := passkit.OpenPasses(together)
	if err != nil || len(bundles) != 2 {
		t.Fatal(len(bundles), err)
	}
	for i, want := range []passkit.Style{passkit.Generic, passkit.Coupon} {
		p, _, err := bundles[i].Pass()
		if err != nil || p.Fields(want) == nil {
			t.Errorf("pass %d is not the %s", i, want)
		}
		if r := passkit.Verify(bundles[i], passkit.VerifyOptions{Roots: authority().Roots()}); !r.OK() {
			t.Error(r)
		}
	}
	if _, err := passkit.PackPasses(nil, noon); !errors.Is(err, passkit.ErrPasses) {
		t.Errorf("none: %v", err)
	}
	if _, err := passkit.PackPasses(make([][]byte, 11), noon); !errors.Is(err, passkit.ErrPasses) {
		t.Errorf("eleven: %v", err)
	}
	for name, c := range map[string]struct {
		archive []byte
		want    error
	}{
		"something else in it": {archive(named("pass.json")...), passkit.ErrPasses},
		"nothing in it":        {archive(), passkit.ErrPasses},
		"a pass that is none":  {archive(named("1.pkpass")...), passkit.ErrArchive},
	} {
		if _, err := passkit.OpenPasses(c.archive); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(must(bundle(f, passkit.Generic).Build(noon)))
	f.Add(archive(named("de.lproj/", "pass.json", "icon.png")...))
	f.Add(claiming([]byte("x"), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		bundle, err := passkit.Open(b)
		if err != nil {
			if !errors.Is(err, passkit.ErrArchive) {
				t.Fatalf("untyped error: %v", err)
			}
			return
		}
		bundle.Validate()
		passkit.Inspect(bundle)
		passkit.Verify(bundle, passkit.VerifyOptions{Roots: authority().Roots()})
		again, err := bundle.Pack([]byte("{}"), nil, noon)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err := passkit.Open(again); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
	})
}
