package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/store"
)

// openLog are logs to be read, with the business rows beside them where there are any.
type openLog struct {
	logs  audit.Logs
	rows  audit.BusinessRows
	cells func(ctx context.Context, visit func(table, column string, value []byte) error) error // of a database
	close func() error
}

func (l *openLog) Close() error { return l.close() }

// onlyLog is one log of several.
type onlyLog struct {
	from audit.Logs
	only audit.LogInfo
}

// Logs gives the one.
func (o onlyLog) Logs(context.Context) ([]audit.LogInfo, error) { return []audit.LogInfo{o.only}, nil }

// LogAt gives it to be read.
func (o onlyLog) LogAt(number int) audit.Source { return o.from.LogAt(number) }

// called gives the log that is called so alone; all logs for an empty name.
func (l *openLog) called(ctx context.Context, name string) (audit.Logs, []audit.LogInfo, error) {
	all, err := l.logs.Logs(ctx)
	if err != nil {
		return nil, nil, exit(exitStorage, err)
	}
	if name == "" {
		return l.logs, all, nil
	}
	one, ok := audit.FindLog(all, name)
	if !ok {
		return nil, nil, exit(exitUsage, fmt.Errorf("--log: there is no log %s; there are: %s", name, names(all)))
	}
	return onlyLog{l.logs, one}, []audit.LogInfo{one}, nil
}

// open opens the log that the arguments name.
func (f *logFlags) open(ctx context.Context, args []string) (*openLog, error) {
	switch {
	case len(args) == 0 && f.config == "":
		return nil, exit(exitUsage, errors.New("which log? Name a database, an export or a URL, or give --config"))
	case len(args) == 0:
		cfg, err := config.Load(f.config, os.Environ())
		if err != nil {
			return nil, exit(exitConfiguration, err)
		}
		return openDatabase(ctx, cfg)
	case strings.HasPrefix(args[0], "http://"), strings.HasPrefix(args[0], "https://"):
		return &openLog{logs: &remoteLog{base: strings.TrimSuffix(args[0], "/")}, close: func() error { return nil }}, nil
	}
	isDatabase, err := isSQLite(args[0])
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	if isDatabase {
		s, err := store.OpenReadOnly(ctx, args[0])
		return openStoreLog(s, err)
	}
	file, err := audit.OpenFile(args[0])
	if err != nil {
		return nil, exit(exitUsage, err)
	}
	return &openLog{logs: file, close: file.Close}, nil
}

func openDatabase(ctx context.Context, cfg *config.Config) (*openLog, error) {
	if cfg.Store.SQLite != "" {
		s, err := store.OpenReadOnly(ctx, cfg.Store.SQLite)
		return openStoreLog(s, err)
	}
	dsn, err := readDSN(cfg.Store.Postgres.DSNFile)
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	s, err := store.OpenPostgresReadOnly(ctx, dsn)
	return openStoreLog(s, err)
}

func openStoreLog(s *store.Store, err error) (*openLog, error) {
	if err != nil {
		return nil, exit(exitStorage, err)
	}
	return &openLog{logs: s, rows: s, cells: s.Cells, close: s.Close}, nil
}

func names(logs []audit.LogInfo) string {
	var all []string
	for _, l := range logs {
		all = append(all, l.String())
	}
	return strings.Join(all, ", ")
}

// isSQLite reports whether a file is a SQLite database.
func isSQLite(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, errors.Join(err, f.Close())
	}
	return bytes.HasPrefix(head[:n], []byte("SQLite format 3\x00")), f.Close()
}

// remoteLog is a log of a running server's database, by its admin listener.
type remoteLog struct {
	base string
	log  int
}

// remoteClient bounds one call.
var remoteClient = &http.Client{Timeout: 30 * time.Second}

func (r *remoteLog) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := remoteClient.Do(req)
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, nil
	case http.StatusMisdirectedRequest:
		err = fmt.Errorf("%s answered %s; call it by a loopback address, or add its name to admin.hosts", r.base, resp.Status)
	default:
		err = fmt.Errorf("%s answered %s; give the URL of the admin listener", r.base, resp.Status)
	}
	return nil, errors.Join(err, resp.Body.Close())
}

// Logs gives all there are.
func (r *remoteLog) Logs(ctx context.Context) ([]audit.LogInfo, error) {
	body, err := r.get(ctx, "/v1/audit/logs")
	if err != nil {
		return nil, err
	}
	var list httpapi.LogList
	err = json.NewDecoder(body).Decode(&list)
	return list.Logs, errors.Join(err, body.Close())
}

// LogAt gives one of them.
func (r *remoteLog) LogAt(number int) audit.Source { return &remoteLog{r.base, number} }

func (r *remoteLog) Size(ctx context.Context) (uint64, error) {
	body, err := r.get(ctx, fmt.Sprintf("/v1/audit?log=%d", r.log))
	if err != nil {
		return 0, err
	}
	var state httpapi.LogState
	err = json.NewDecoder(body).Decode(&state)
	return state.Size, errors.Join(err, body.Close())
}

func (r *remoteLog) Rows(ctx context.Context, from uint64, limit int) ([]audit.Row, error) {
	return readLines[audit.Row](ctx, r, fmt.Sprintf("/v1/audit/entries?log=%d&from=%d&limit=%d", r.log, from, limit))
}

func (r *remoteLog) Checkpoints(ctx context.Context, from uint64, limit int) ([]audit.Checkpoint, error) {
	return readLines[audit.Checkpoint](ctx, r, fmt.Sprintf("/v1/audit/checkpoints?log=%d&from=%d&limit=%d", r.log, from, limit))
}

func readLines[T any](ctx context.Context, r *remoteLog, path string) ([]T, error) {
	body, err := r.get(ctx, path)
	if err != nil {
		return nil, err
	}
	var all []T
	for dec := json.NewDecoder(body); ; {
		var one T
		err := dec.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all, body.Close()
		}
		if err != nil {
			return nil, errors.Join(err, body.Close())
		}
		all = append(all, one)
	}
}

// readSPKI reads a public key, or the one in a certificate.
func readSPKI(path string) ([]byte, error) {
	pub, err := loadPublicKey(path)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(pub)
}

// trustKeyring takes the log's name from a configuration and, if asked, the pins of its
// keyring's checkpoint keys: active, next and retired, since a log outlives its keys.
func trustKeyring(path string, v *audit.Verification, pins bool) error {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return exit(exitConfiguration, err)
	}
	if v.Origin == "" {
		v.Origin = cfg.Origin()
	}
	v.MaxUnsigned = 2 * cfg.Audit.MaxUnsignedAge
	if !pins {
		return nil
	}
	_, ring, err := loadRing(path)
	if err != nil {
		return err
	}
	v.Pins = spkiPins(ring, hsm.AuditCheckpoint)
	return nil
}

// loadRing reads a configuration and its keyring, for commands that need no more.
func loadRing(path string) (*config.Config, *hsm.Keyring, error) {
	cfg, err := config.Load(path, os.Environ())
	if err != nil {
		return nil, nil, exit(exitConfiguration, err)
	}
	ring, err := hsm.LoadKeyring(cfg.Keyring)
	return cfg, ring, exit(exitConfiguration, err)
}

// spkiPins gives the pins of a keyring's keys of a purpose.
func spkiPins(ring *hsm.Keyring, purpose hsm.Purpose) map[[sha256.Size]byte]bool {
	pins := map[[sha256.Size]byte]bool{}
	for _, k := range ring.Keys {
		if k.Purpose != purpose {
			continue
		}
		for _, pin := range k.Pins {
			digest, _ := strings.CutPrefix(string(pin), "spki-sha256:")
			if b, err := hex.DecodeString(digest); err == nil && len(b) == sha256.Size {
				pins[[sha256.Size]byte(b)] = true
			}
		}
	}
	return pins
}
