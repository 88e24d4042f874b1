// Package pgtest runs a PostgreSQL server of its own for tests: Debian's package, a new
// cluster in a temporary folder, a Unix socket and no network, as an unprivileged user.
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Run(m)) }
//	…
//	s, err := store.OpenPostgres(ctx, pgtest.NewDatabase(t), "test", "")
//
// One server serves all tests of a process, each with a database of its own.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a server, running unless Halt ended it.
type Server struct {
	dir    string
	again  func() error // starts it
	halt   func(syscall.Signal)
	pid    int
	mu     sync.Mutex // guards made
	made   int
	exited chan struct{}
}

var (
	shared   *Server
	startErr error
	once     sync.Once
)

// Run runs a package's tests and then stops the server that they used, if any did.
func Run(m interface{ Run() int }) int {
	defer func() {
		if shared != nil {
			shared.Stop()
		}
	}()
	return m.Run()
}

// Shared is the server of all tests of the process.
func Shared(t testing.TB) *Server {
	t.Helper()
	once.Do(func() { shared, startErr = Start("fsync=off") })
	if startErr != nil {
		t.Fatalf("PostgreSQL (tools/ensure.sh postgresql installs it): %v", startErr)
	}
	return shared
}

// NewDatabase makes an empty database and gives its connection string.
func NewDatabase(t testing.TB) string {
	t.Helper()
	dsn, err := Shared(t).NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	return dsn
}

// Start starts a server with further settings, each name=value.
func Start(settings ...string) (*Server, error) {
	initdb, err := find("initdb")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mintmark-pg-") // a socket's path must be short
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	if err := s.start(initdb, settings); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// find finds a program of the server in the places that tools/ensure.sh knows.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/", "/usr/libexec/postgresql*/", "/usr/pgsql-*/bin/", "/usr/local/pgsql/bin/",
		"/opt/homebrew/opt/postgresql*/bin/", "/usr/local/opt/postgresql*/bin/",
	} {
		if found, _ := filepath.Glob(pattern + name); len(found) != 0 {
			return found[len(found)-1], nil
		}
	}
	return "", fmt.Errorf("%s is not installed", name)
}

func (s *Server) start(initdb string, settings []string) error {
	who, err := unprivileged(s.dir)
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	make := exec.Command(initdb, "-N", "-A", "trust", "-U", "mintmark", "-E", "UTF8", "--locale=C", "-D", data)
	make.SysProcAttr, make.Dir = who, s.dir
	if out, err := make.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	args := []string{"-D", data, "-c", "listen_addresses=", "-c", "unix_socket_directories=" + s.dir}
	for _, set := range settings {
		args = append(args, "-c", set)
	}
	s.again = func() error {
		server := exec.Command(filepath.Join(filepath.Dir(initdb), "postgres"), args...)
		own := *who
		server.SysProcAttr, server.Dir = &own, s.dir
		if err := s.run(server); err != nil {
			return err
		}
		return s.await()
	}
	return s.again()
}

// unprivileged gives the folder to whom the server runs as: root may not run it.
func unprivileged(dir string) (*syscall.SysProcAttr, error) {
	if os.Getuid() != 0 {
		return &syscall.SysProcAttr{}, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		return nil, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// run starts the server, which ends with this process, however that ends.
func (s *Server) run(server *exec.Cmd) error {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	exited := make(chan struct{})
	s.exited = exited
	server.Stdout, server.Stderr = log, log
	dieWithParent(server)
	started := make(chan error, 1)
	go func() {
		// A child is told of the end of the thread that made it, which must stay.
		runtime.LockOSThread()
		defer close(exited)
		defer func() { _ = log.Close() }()
		err := server.Start()
		started <- err
		if err == nil {
			_ = server.Wait()
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	s.pid = server.Process.Pid
	s.halt = func(with syscall.Signal) {
		_ = server.Process.Signal(with)
		<-exited
	}
	return nil
}

// answersWithin is how long a server may take to start: after a crash it waits for the disk to
// have every file.
const answersWithin = 2 * time.Minute

// await waits until the server answers.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), answersWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := pgx.Connect(ctx, s.dsn("postgres"))
		if err == nil {
			return c.Close(ctx)
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("the server ended: %s", s.Log())
		case <-ctx.Done():
			s.halt(syscall.SIGQUIT)
			return fmt.Errorf("the server does not answer: %w\n%s", err, s.Log())
		}
	}
}

// NewDatabase makes an empty database and gives its connection string.
func (s *Server) NewDatabase() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made++
	name := "test" + strconv.Itoa(s.made)
	ctx := context.Background()
	c, err := pgx.Connect(ctx, s.dsn("postgres"))
	if err != nil {
		return "", err
	}
	_, err = c.Exec(ctx, "CREATE DATABASE "+name)
	return s.dsn(name), errors.Join(err, c.Close(ctx))
}

func (s *Server) dsn(database string) string {
	return fmt.Sprintf("host=%s user=mintmark dbname=%s", s.dir, database)
}

// LogFile is where the server writes its log.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "log") }

// Log is what the server has logged.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.LogFile())
	return strings.TrimSpace(string(b)) + errText(err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Halt ends the server and keeps its data: at once, as a crash would, or cleanly, with its
// connections closed and what they had begun undone.
func (s *Server) Halt(cleanly bool) {
	if cleanly {
		s.halt(syscall.SIGINT) // "fast"
		return
	}
	s.halt(syscall.SIGQUIT)
}

// Resume starts a server again that was halted, and waits until it answers.
func (s *Server) Resume() error { return s.again() }

// Stop ends the server and removes everything.
func (s *Server) Stop() {
	_ = s.Continue()        // one that is paused heeds no other signal
	s.halt(syscall.SIGQUIT) // at once: nothing is kept
	_ = os.RemoveAll(s.dir)
}
