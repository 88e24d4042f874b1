package main

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/report"
)

// facts reads every member.
func (all openedMembers) facts(ctx context.Context) []report.Member {
	var facts []report.Member
	for _, m := range all {
		if m.err != nil {
			facts = append(facts, report.Member{Name: m.cfg.Name, Err: m.err.Error()})
			continue
		}
		facts = append(facts, report.ReadMember(ctx, m.token, m.cfg.SignaturesOnly))
	}
	return facts
}

// The counts of a service at work differ by what is in flight: they are read again a few times.
const (
	serviceReads = 20
	serviceEvery = 50 * time.Millisecond
)

// service asks the running service what it says of itself.
func (o *reportOptions) service(ctx context.Context, p *plan) (*report.Service, string) {
	base := o.admin
	if base == "" {
		base = "http://" + p.cfg.Admin.Listen
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(serviceEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		s, err := readService(ctx, &remoteLog{base: strings.TrimSuffix(base, "/")})
		if err != nil {
			return nil, err.Error()
		}
		if s.Ephemeral.Created == s.Ephemeral.Destroyed || n == serviceReads {
			return s, ""
		}
		<-tick.C
	}
}

func readService(ctx context.Context, from *remoteLog) (*report.Service, error) {
	body, err := from.get(ctx, "/v1/service")
	if err != nil {
		return nil, err
	}
	var s report.Service
	return &s, errors.Join(json.NewDecoder(io.LimitReader(body, 1<<20)).Decode(&s), body.Close())
}

// logFacts verifies the whole log of the configured database.
func (o *reportOptions) logFacts(ctx context.Context, p *plan) report.Log {
	a := p.cfg.Audit
	l := report.Log{MaxUnsigned: 2 * a.MaxUnsignedAge, Configured: len(a.Anchors), OffHost: offHost(a.Anchors), Retention: a.Retention}
	if err := o.readLog(ctx, p, &l); err != nil {
		l.Err = err.Error()
	}
	return l
}

func (o *reportOptions) readLog(ctx context.Context, p *plan, l *report.Log) (err error) {
	log, err := openDatabase(ctx, p.cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	paths := slices.Clone(o.anchors)
	for _, a := range p.cfg.Audit.Anchors {
		if a.File == "" {
			continue
		}
		if _, err := os.Stat(a.File); errors.Is(err, fs.ErrNotExist) {
			l.Missing = append(l.Missing, a.File)
			continue
		}
		paths = append(paths, a.File)
	}
	kept, err := readAnchors(paths)
	if err != nil {
		return err
	}
	return l.Read(ctx, audit.Verification{
		Rows: log.rows, Origin: p.cfg.Origin(), Pins: spkiPins(p.keyring, hsm.AuditCheckpoint), Anchored: kept, Now: time.Now(),
	}, log.logs)
}

// offHost counts the anchors on other hosts.
func offHost(anchors []config.Anchor) int {
	n := 0
	for _, a := range anchors {
		if a.Webhook != "" || strings.HasPrefix(a.Syslog, "tcp://") || strings.HasPrefix(a.Syslog, "tls://") {
			n++
		}
	}
	return n
}

// scans looks for card numbers in the logs and in every cell of the database.
func (o *reportOptions) scans(ctx context.Context, p *plan, scanner *report.Scanner) []report.Scan {
	var all []report.Scan
	for _, path := range o.logs {
		f, err := os.Open(path)
		if err != nil {
			all = append(all, report.Scan{Place: path, Log: true, Err: err.Error()})
			continue
		}
		all = append(all, scanner.Lines(path, f))
		_ = f.Close() // it was read
	}
	log, err := openDatabase(ctx, p.cfg)
	if err != nil {
		return append(all, report.Scan{Place: "the database", Err: err.Error()})
	}
	scan := scanner.Cells(ctx, "the database", log.cells)
	if err := log.Close(); err != nil && scan.Err == "" {
		scan.Err = err.Error()
	}
	return append(all, scan)
}

// recordFacts reads the transcript of a ceremony: which of the keyring's keys it made, and who
// signed for it.
func recordFacts(path string, ring *hsm.Keyring) report.Record {
	r := report.Record{Path: path}
	sum, err := smallFileSHA256(path)
	if err != nil {
		r.Err = err.Error()
		return r
	}
	r.SHA256 = sum
	t, _, err := readTranscript(path, pinnedReportKey(ring))
	if err == nil && t.Failed != "" {
		err = fmt.Errorf("the ceremony failed: %s", t.Failed)
	}
	if err != nil {
		r.Err = err.Error()
		return r
	}
	r.Reviews = t.PlanSHA256
	for _, p := range t.People {
		r.People = append(r.People, p.Person)
	}
	before, err1 := hsm.ParseKeyring([]byte(t.Before))
	after, err2 := hsm.ParseKeyring([]byte(t.After))
	if err := errors.Join(err1, err2); err != nil {
		r.Err = err.Error()
		return r
	}
	for _, k := range after.Keys {
		_, old := before.Find(k.Name)
		// A key of that name that was made otherwise since is another one.
		if now, listed := ring.Find(k.Name); !old && listed && now.ID == k.ID && now.Pins[t.Member] == k.Pins[t.Member] {
			r.Keys = append(r.Keys, k.Name)
		}
	}
	return r
}

// buildState is what this program was made from.
func buildState() report.Build {
	b := report.Build{Version: version, Go: runtime.Version(), Revision: revision, Modified: strings.HasSuffix(version, "-dirty")}
	if modules, n := moduleList(); n > 0 {
		sum := sha256.Sum256([]byte(modules))
		b.Modules, b.ModulesSHA256 = n, hex.EncodeToString(sum[:])
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Revision = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if path, err := os.Executable(); err == nil {
		if sum, err := fileSHA256(path); err == nil {
			b.ExecutableSHA256 = sum
		}
	}
	return b
}

// moduleList is the program's bill of materials: a line for each module, with its version and
// the checksum that go.sum has.
func moduleList() (list string, n int) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", 0
	}
	var b strings.Builder
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		fmt.Fprintf(&b, "%s %s %s\n", m.Path, m.Version, m.Sum)
	}
	return b.String(), len(info.Deps)
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// listenerFacts are the configured addresses with their TLS.
func listenerFacts(cfg *config.Config) []report.Listener {
	all := []report.Listener{{Name: "admin", Address: cfg.Admin.Listen, Loopback: config.OnLoopback(cfg.Admin.Listen)}}
	for _, l := range cfg.Listeners() {
		f := report.Listener{Name: l.Name, Address: l.Listen, Loopback: config.OnLoopback(l.Listen), TLS: l.TLS != nil}
		if l.TLS != nil {
			f.Policy, f.Weak = tlsPolicy(l.TLS), weakCertificate(l.TLS, time.Now())
		}
		all = append(all, f)
	}
	return all
}

// weakCertificate is what is wrong with a listener's certificate in a file; those of keys in the
// token are the keyring's.
func weakCertificate(cfg *config.TLS, now time.Time) string {
	if cfg.KeyInToken {
		return ""
	}
	pair, err := tls.LoadX509KeyPair(cfg.CertificateFile, cfg.KeyFile)
	if err != nil {
		return err.Error()
	}
	if key, ok := pair.Leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
		return fmt.Sprintf("its RSA key has %d bits", key.N.BitLen())
	}
	if now.After(pair.Leaf.NotAfter) {
		return "its certificate ended " + pair.Leaf.NotAfter.UTC().Format(time.DateOnly)
	}
	return ""
}

// tlsPolicy is a listener's TLS, as tlsConfig makes it.
func tlsPolicy(cfg *config.TLS) string {
	text := "TLS 1.3"
	if cfg.MinVersion == "1.2" {
		var names []string
		for _, s := range suites12 {
			names = append(names, tls.CipherSuiteName(s))
		}
		text = "TLS 1.2 (" + strings.Join(names, ", ") + ") and 1.3"
	}
	if cfg.KeyInToken {
		text += ", key in the token"
	}
	for _, role := range slices.Sorted(maps.Keys(cfg.ClientCertificates)) {
		text += fmt.Sprintf(", client certificates for %s: %s", role, cfg.ClientCertificates[role])
	}
	return text
}
