package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/config"
)

// approvalLease is how long an approval has its change to itself. Taking up a keyring is the
// longest that any takes.
const approvalLease = 2*keyringWithin + time.Minute

// openChanges makes dual control over an open service.
func (s *service) openChanges() error {
	files, err := takenFiles(s.plan.path, s.plan.cfg)
	if err != nil {
		return err
	}
	s.inUse.Store(&files)
	kinds := []approval.Kind{configurationKind{s}}
	if s.provisioning != nil {
		kinds = append(kinds, enablementKind{s.provisioning, s.plan.cfg.Environment})
	}
	d := s.plan.cfg.DualControl
	s.changes, err = approval.New(approval.Config{
		Recorder: s.audit, Store: s.store, Kinds: kinds, Now: time.Now,
		Within: d.Within, Lease: approvalLease, Separation: approval.Separation(d.Identity),
	})
	return err
}

// adminConfig is what the admin listener's routes for callers are made of.
func (s *service) adminConfig() httpapi.Config {
	return httpapi.Config{
		Callers: s.callers, Refusals: s.audit, Metrics: s.metrics, Log: s.plan.log, Now: time.Now,
		ClaimLease: approvalLease, RequestTimeout: changeTimeout,
	}
}

// changeTimeout is what the admin listener gives an answer; a change goes on without its caller.
const changeTimeout = 55 * time.Second

// configurationKind is the change to the configuration and keyring that stand in the files now:
// clients and their rights, keys and their states, and all else that a SIGHUP takes up.
type configurationKind struct{ s *service }

// configurationChange is its document: every file that decides, by its digest.
type configurationChange struct {
	Files []takenFile `json:"files"`
}

// A takenFile is a file that a configuration is made from.
type takenFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"` // hex
}

// Name is the kind's.
func (configurationKind) Name() string { return "configuration" }

// Canonical gives the document with its files in order. They must be those that stand here now,
// and something that could be taken up.
func (k configurationKind) Canonical(_ context.Context, document []byte) ([]byte, error) {
	var c configurationChange
	if err := json.Unmarshal(document, &c, json.RejectUnknownMembers(true)); err != nil {
		return nil, &approval.DocumentError{What: `send {"files": [{"path", "sha256"}]}: mintmark changes propose makes it`}
	}
	slices.SortFunc(c.Files, func(a, b takenFile) int { return strings.Compare(a.Path, b.Path) })
	next, files, err := k.s.readNext()
	if err != nil {
		return nil, &approval.DocumentError{What: "the files cannot be taken up: " + err.Error()}
	}
	next.clients.close(k.s.callers.current.Load()) // it was only looked at
	if err := sameFiles(c.Files, files); err != nil {
		return nil, err
	}
	if slices.Equal(files, *k.s.inUse.Load()) {
		return nil, &approval.DocumentError{What: "it is in use: nothing would change"}
	}
	return json.Marshal(c, json.Deterministic(true))
}

// Apply takes up the files, if they are still those that were approved.
func (k configurationKind) Apply(ctx context.Context, document []byte) error {
	var c configurationChange
	if err := json.Unmarshal(document, &c); err != nil {
		return &approval.DocumentError{What: "it cannot be read"}
	}
	k.s.reloading.Lock()
	defer k.s.reloading.Unlock()
	next, files, err := k.s.readNext()
	if err != nil {
		return &approval.DocumentError{What: "the files cannot be taken up: " + err.Error()}
	}
	if err := sameFiles(c.Files, files); err != nil {
		next.clients.close(k.s.callers.current.Load())
		return err
	}
	return k.s.takePlan(ctx, next, files)
}

// sameFiles is a *approval.DocumentError that names the files in which two lists differ.
func sameFiles(want, have []takenFile) error {
	differ := map[string]bool{}
	for _, lists := range [][2][]takenFile{{want, have}, {have, want}} {
		for _, f := range lists[0] {
			if !slices.Contains(lists[1], f) {
				differ[f.Path] = true
			}
		}
	}
	if len(differ) == 0 && len(want) == len(have) {
		return nil
	}
	var names []string
	for name := range differ {
		names = append(names, name)
	}
	slices.Sort(names)
	return &approval.DocumentError{What: "other files stand here: " + strings.Join(names, ", ")}
}

// takenFiles gives the files that decide what a reload takes up, with their digests, sorted: the
// configuration, the keyring, and the keys and authorities that the configuration names. The
// listeners' certificates, which are read again by themselves, are none of them.
func takenFiles(path string, cfg *config.Config) ([]takenFile, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	paths := []string{path, cfg.Keyring, cfg.Outbound.CAFile}
	for _, c := range cfg.Clients {
		for _, k := range c.Keys {
			paths = append(paths, k.PublicKeyFile)
		}
		if c.Certificate != nil {
			paths = append(paths, c.Certificate.CAFile)
		}
	}
	for _, sc := range cfg.PushProvisioning.Schemes {
		paths = append(paths, sc.PublicKeyFile)
	}
	var all []takenFile
	slices.Sort(paths)
	for _, p := range slices.Compact(paths) {
		if p == "" {
			continue
		}
		sum, err := smallFileSHA256(p)
		if err != nil {
			return nil, err
		}
		all = append(all, takenFile{p, sum})
	}
	return all, nil
}

// smallFileSHA256 is the digest of a file of at most a few megabytes.
func smallFileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(h, io.LimitReader(f, 8<<20))
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}

// readNext loads what the files say now, and which files these are. Files that change while
// they are read are refused: what was loaded might be neither.
func (s *service) readNext() (*plan, []takenFile, error) {
	cfg, err := config.LoadFor(s.plan.path, os.Environ(), s.plan.roles)
	if err != nil {
		return nil, nil, err
	}
	before, err := takenFiles(s.plan.path, cfg)
	if err != nil {
		return nil, nil, err
	}
	current := s.callers.current.Load()
	next, err := loadPlanFor(s.plan.path, s.plan.roles, current)
	if err != nil {
		return nil, nil, err
	}
	after, err := takenFiles(s.plan.path, next.cfg)
	if err == nil && !slices.Equal(before, after) {
		err = fmt.Errorf("%s, or a file that it names, changed while it was read", s.plan.path)
	}
	if err == nil {
		err = s.mayTakeUp(next)
	}
	if err != nil {
		next.clients.close(current)
		return nil, nil, err
	}
	return next, after, nil
}

// errNotApproved says that a reload would take up what nobody approved.
var errNotApproved = errors.New("dualControl.required: the files differ from what is in use; have the change proposed and approved (mintmark changes)")
