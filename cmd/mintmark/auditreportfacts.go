package main

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
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
		f := report.Member{Name: m.cfg.Name}
		err := m.err
		if err == nil {
			err = m.read(ctx, &f)
		}
		if err != nil {
			f.Err = err.Error()
		}
		facts = append(facts, f)
	}
	return facts
}

// read reads one member. The seal comes before the attempts, which make session objects too.
func (m openedMember) read(ctx context.Context, f *report.Member) (err error) {
	t := m.token
	if f.Login, err = t.Login(ctx); err != nil {
		return err
	}
	if f.Inventory, err = t.Inventory(ctx); err != nil {
		return err
	}
	f.Sessions = t.Sessions()
	f.Proofs, f.Retired = map[string]string{}, map[string]string{}
	for _, k := range f.Inventory.Keys {
		switch {
		case k.Problem == "" && k.Algorithm.Public():
			f.Proofs[k.Name] = errorText(t.SelfTest(ctx, k.Name))
		case k.Problem == hsm.KeyRetired:
			if err, tried := tryRetired(ctx, t, k.Key); tried {
				f.Retired[k.Name] = errorText(err)
			}
		}
	}
	f.Sealed = sealOnce(ctx, t, m.cfg.SignaturesOnly)
	f.Tried = tryAll(ctx, t, f.Inventory.Keys)
	return nil
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// tryRetired tries to make something new with a retired key. Keys that only agree open what was
// sent to them, which retired ones still may.
func tryRetired(ctx context.Context, t *hsm.Token, k hsm.Key) (err error, tried bool) {
	digest := make([]byte, sha256.Size)
	switch {
	case k.Purpose == hsm.CardTransport, k.Purpose == hsm.CardIndex:
		return nil, false
	case k.Algorithm.Public():
		_, err = t.Sign(ctx, k.Name, digest, crypto.SHA256)
	case k.Algorithm == hsm.AES256:
		_, err = t.EncryptGCM(ctx, k.Name, make([]byte, 12), nil, digest)
	case k.Algorithm == hsm.TDEA:
		_, err = t.EncryptTDEA(ctx, k.Name, digest)
	default:
		return nil, false
	}
	return err, true
}

// sealOnce seals nothing for nobody, and counts what was made and destroyed for it.
func sealOnce(ctx context.Context, t *hsm.Token, signaturesOnly bool) report.Ephemeral {
	before := t.Stats()
	if !signaturesOnly {
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return report.Ephemeral{Err: err.Error()}
		}
		_, err = t.AgreeAndSeal(ctx, hsm.Sealing{
			Peer: peer.PublicKey(), IV: make([]byte, 12), Plaintext: []byte("mintmark audit report"),
			OtherInfo: func([]byte) []byte { return []byte("mintmark audit report") },
		})
		if err != nil {
			return report.Ephemeral{Err: "no seal: " + err.Error()}
		}
	}
	after := t.Stats()
	left, err := t.SessionObjects(ctx)
	if err != nil {
		return report.Ephemeral{Err: err.Error()}
	}
	return report.Ephemeral{
		Created: after.EphemeralCreated - before.EphemeralCreated, Destroyed: after.EphemeralDestroyed - before.EphemeralDestroyed, Left: left,
	}
}

// tryAll tries what no key may allow, once for each template. RSA keys of every size have one:
// it is tried with 2048 bits, which a token makes soonest.
func tryAll(ctx context.Context, t *hsm.Token, keys []hsm.KeyInventory) []report.Tried {
	var all []report.Tried
	at := map[string]int{}
	for _, k := range keys {
		if k.Problem == hsm.KeyNotBound || k.State == hsm.Retired {
			continue
		}
		template := strings.Join(k.Expected().Mechanisms, " ")
		if i, done := at[template]; done {
			all[i].For = append(all[i].For, k.Name)
			continue
		}
		tried := report.Tried{Algorithm: k.Algorithm, For: []string{k.Name}}
		if strings.HasPrefix(string(k.Algorithm), "RSA") {
			tried.Algorithm = hsm.RSA2048
		}
		var err error
		tried.Attempts, err = t.Attempts(ctx, k.Purpose, tried.Algorithm)
		tried.Err, tried.NoSuchKey = errorText(err), hsm.NoSuchKeys(err)
		at[template] = len(all)
		all = append(all, tried)
	}
	return all
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
		s, err := readService(ctx, &remoteLog{strings.TrimSuffix(base, "/")})
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
	l := report.Log{MaxUnsigned: 2 * a.MaxUnsignedAge, Configured: len(a.Anchors), OffHost: offHost(a.Anchors), Retention: a.Retention, Anchored: map[string]audit.Checkpoint{}}
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
	paths := o.anchors
	for _, a := range p.cfg.Audit.Anchors {
		if _, err := os.Stat(a.File); a.File != "" && err == nil {
			paths = append(paths, a.File)
		}
	}
	v := audit.Verification{
		Source: log.Source, Rows: log.rows, Origin: p.cfg.Origin(), Pins: spkiPins(p.keyring, hsm.AuditCheckpoint),
		MaxUnsigned: l.MaxUnsigned, Now: time.Now(),
	}
	if v.Anchored, err = readAnchors(paths); err != nil {
		return err
	}
	for path, kept := range v.Anchored {
		l.Anchored[path] = kept[len(kept)-1]
	}
	if l.Report, err = audit.Verify(ctx, v); err != nil {
		return err
	}
	last, err := log.Checkpoints(ctx, l.Report.Covered, 1)
	if err == nil && len(last) == 1 {
		l.Signed = last[0].At
	}
	return err
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
			all = append(all, report.Scan{Place: path, Err: err.Error()})
			continue
		}
		all = append(all, scanner.Lines(path, f))
		_ = f.Close() // it was read
	}
	return append(all, scanDatabase(ctx, p.cfg, scanner))
}

func scanDatabase(ctx context.Context, cfg *config.Config, scanner *report.Scanner) report.Scan {
	scan := report.Scan{Place: "the database"}
	log, err := openDatabase(ctx, cfg)
	if err != nil {
		scan.Err = err.Error()
		return scan
	}
	row := map[string]int{}
	err = log.cells(ctx, func(table, column string, value []byte) error {
		at := table + "." + column
		row[at]++
		scan.Bytes += int64(len(value))
		if scanner.Holds(value) {
			scan.Hits = append(scan.Hits, fmt.Sprintf("%s, row %d", at, row[at]))
		}
		return nil
	})
	if err := errors.Join(err, log.Close()); err != nil {
		scan.Err = err.Error()
	}
	return scan
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
			f.Policy = tlsPolicy(l.TLS)
		}
		all = append(all, f)
	}
	return all
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
	for role, mode := range cfg.ClientCertificates {
		text += fmt.Sprintf(", client certificates for %s: %s", role, mode)
	}
	return text
}
