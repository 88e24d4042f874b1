// Command sbom writes what a binary was made of, as a CycloneDX 1.5 document: its Go modules
// with the checksums of go.sum and their licences, the Go standard library, and SQLite, which
// is C code inside one of the modules.
//
//	sbom bin/mintmark v1.2.3 >bin/mintmark.cdx.json
//
// It reads what the linker has put into the binary, so that what is listed is what is in it,
// and runs in the module that the binary was built from. The same binary gives the same
// document: its serial number is made from the binary, its time is that of the sources
// (SOURCE_DATE_EPOCH, or the commit's).
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// The parts of the document, by the names that the specification gives them.
type (
	document struct {
		Schema       string       `json:"$schema"`
		BOMFormat    string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Ref        string     `json:"bom-ref"`
		Type       string     `json:"type"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Licences   []licence  `json:"licenses,omitempty"`
		PURL       string     `json:"purl"`
		Properties []property `json:"properties,omitempty"`
	}
	hash    struct{ Alg, Content string }
	licence struct {
		Licence struct {
			ID string `json:"id"`
		} `json:"license"`
	}
	property   struct{ Name, Value string }
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
)

func (h hash) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"alg": h.Alg, "content": h.Content})
}

func (p property) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"name": p.Name, "value": p.Value})
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: sbom BINARY VERSION")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(w io.Writer, path, version string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return err
	}
	sum, err := fileSHA256(path)
	if err != nil {
		return err
	}
	folders, err := moduleFolders()
	if err != nil {
		return err
	}
	d := document{
		Schema: "http://cyclonedx.org/schema/bom-1.5.schema.json", BOMFormat: "CycloneDX", SpecVersion: "1.5", Version: 1,
		SerialNumber: serialNumber(sum), Metadata: metadata{Timestamp: sourceTime(info), Component: program(info, version, sum)},
	}
	d.Components = append(d.Components, standardLibrary(info))
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c, err := goModule(m, folders[m.Path])
		if err != nil {
			return err
		}
		d.Components = append(d.Components, c)
		if m.Path == "github.com/mattn/go-sqlite3" {
			c, err := sqlite(folders[m.Path])
			if err != nil {
				return err
			}
			d.Components = append(d.Components, c)
		}
	}
	all := dependency{Ref: d.Metadata.Component.Ref}
	for _, c := range d.Components {
		all.DependsOn = append(all.DependsOn, c.Ref)
	}
	d.Dependencies = []dependency{all}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

// program is the binary itself, with how it was built.
func program(info *debug.BuildInfo, version string, sum [32]byte) component {
	c := component{Type: "application", Name: info.Main.Path, Hashes: []hash{{"SHA-256", hex.EncodeToString(sum[:])}}, Licences: licenceList("Apache-2.0")}
	for _, s := range info.Settings {
		c.Properties = append(c.Properties, property{"go:build:" + s.Key, s.Value})
	}
	c.Version, c.PURL = version, "pkg:golang/"+info.Main.Path+"@"+version
	c.Ref = c.PURL
	return c
}

func standardLibrary(info *debug.BuildInfo) component {
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ") // experiments stand behind it
	ref := "pkg:golang/std@" + version
	return component{Ref: ref, Type: "library", Name: "std", Version: version, PURL: ref, Licences: licenceList("BSD-3-Clause")}
}

// goModule is a module. Its hash is go.sum's h1: the SHA-256 of the list of its files'
// SHA-256.
func goModule(m *debug.Module, folder string) (component, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil || len(raw) != sha256.Size {
		return component{}, fmt.Errorf("module %s has no checksum of go.sum", m.Path)
	}
	id, err := licenceOf(folder)
	if err != nil {
		return component{}, fmt.Errorf("module %s: %w", m.Path, err)
	}
	ref := "pkg:golang/" + m.Path + "@" + m.Version
	return component{
		Ref: ref, Type: "library", Name: m.Path, Version: m.Version, PURL: ref, Licences: licenceList(id),
		Hashes: []hash{{"SHA-256", hex.EncodeToString(raw)}}, Properties: []property{{"go:sum", m.Sum}},
	}, nil
}

var sqliteVersion = regexp.MustCompile(`#define SQLITE_VERSION +"([0-9.]+)"`)

// sqlite is the C library that its module carries as one file.
func sqlite(folder string) (component, error) {
	header, err := os.ReadFile(filepath.Join(folder, "sqlite3-binding.h"))
	if err != nil {
		return component{}, err
	}
	m := sqliteVersion.FindSubmatch(header)
	if m == nil {
		return component{}, errors.New("sqlite3-binding.h says no version")
	}
	ref := "pkg:generic/sqlite@" + string(m[1])
	return component{Ref: ref, Type: "library", Name: "sqlite", Version: string(m[1]), PURL: ref, Licences: licenceList("blessing")}, nil
}

// licences are known by words that no other one has, the longer texts first.
var licences = []struct{ id, words string }{
	{"Apache-2.0", "Apache License"},
	{"MPL-2.0", "Mozilla Public License"},
	{"ISC", "Permission to use, copy, modify, and/or distribute this software"},
	{"ISC", "Permission to use, copy, modify, and distribute this software"},
	{"MIT", "Permission is hereby granted, free of charge"},
	{"BSD-3-Clause", "may be used to endorse or promote products"},
	{"BSD-2-Clause", "Redistributions in binary form must reproduce"},
}

// licenceOf reads a module's licence.
func licenceOf(folder string) (id string, err error) {
	if folder == "" {
		return "", errors.New("its sources are not in the module cache")
	}
	names, err := filepath.Glob(filepath.Join(folder, "[LlCc][IiOo][CcPp]*"))
	if err != nil {
		return "", err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a folder
		}
		flat := strings.Join(strings.Fields(string(text)), " ")
		for _, l := range licences {
			if strings.Contains(flat, l.words) {
				return l.id, nil
			}
		}
	}
	return "", errors.New("no licence is known in its sources; add its words to tools/sbom")
}

func licenceList(id string) []licence {
	var l licence
	l.Licence.ID = id
	return []licence{l}
}

// moduleFolders are where the sources of the modules are.
func moduleFolders() (map[string]string, error) {
	cmd := exec.Command("go", "list", "-m", "-json=Path,Dir", "all")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	all := map[string]string{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var m struct{ Path, Dir string }
		if err := dec.Decode(&m); err != nil {
			return nil, err
		}
		all[m.Path] = m.Dir
	}
	return all, nil
}

// sourceTime is when the sources were committed, or what SOURCE_DATE_EPOCH says.
func sourceTime(info *debug.BuildInfo) string {
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			return s.Value
		}
	}
	return ""
}

// serialNumber is a version 8 UUID (RFC 9562) of the binary's digest.
func serialNumber(sum [32]byte) string {
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func fileSHA256(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [32]byte(h.Sum(nil)), errors.Join(err, f.Close())
}
