package hsm

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// MemberCommand is the argument with which a binary that calls Start must call ServeMember
// and then end: Start runs the binary itself again for each member that is isolated.
const MemberCommand = "hsm-member"

// ServeMember is the life of a member's process: it takes its configuration from the parent,
// opens the token as any member is opened, and works until the parent has closed the socket
// or has ended. What goes wrong with the token is told to the parent; an error is returned
// only where there is none to tell it to, such as when a person has given the command.
func ServeMember() error {
	conn, err := fromParent()
	if err != nil {
		return fmt.Errorf("serve HSM member: %w", err)
	}
	// The parent decides when its members end: after the answers under way, not with them.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	return serveMember(conn)
}

func serveMember(conn net.Conn) error {
	defer func() { _ = conn.Close() }()
	hello, err := readMessage(conn)
	if err != nil || hello.kind != kindHello || len(hello.fields) != 1 {
		return fmt.Errorf("serve HSM member: no configuration: %w", errMessage)
	}
	var settings childSettings
	if err := json.Unmarshal(hello.fields[0], &settings); err != nil || settings.Ring.Keyring == nil {
		return fmt.Errorf("serve HSM member: configuration: %w", errMessage)
	}
	c := &child{link: newLink(conn), calls: map[uint64]*asked{}, rings: map[*Keyring]uint64{}, opened: make(chan struct{})}
	alive, end := context.WithCancel(context.Background())
	defer end()
	go c.open(alive, settings.config(c))
	for {
		m, err := readMessage(conn)
		if err != nil {
			return nil // the parent has ended, or has had enough of this child
		}
		c.take(alive, m)
	}
}

// childSettings are a member's configuration as it is told to the child.
type childSettings struct {
	Config  Config // but for what is no data
	Ring    ringSettings
	Verbose bool // whether the parent logs debug messages
}

func settingsFor(cfg Config, ring ringSettings) childSettings {
	s := childSettings{Config: cfg, Ring: ring, Verbose: cfg.Log.Enabled(context.Background(), slog.LevelDebug)}
	s.Config.Keyring, s.Config.Observer, s.Config.Log, s.Config.OnWedged = nil, nil, nil, nil
	return s
}

// config is the configuration of the child's own member.
func (s childSettings) config(c *child) Config {
	cfg := s.Config
	c.mu.Lock()
	cfg.Keyring = c.keyring(s.Ring)
	c.mu.Unlock()
	cfg.expendable = true
	cfg.Observer = tellingObserver{c}
	cfg.Log = slog.New(tellingHandler{child: c, verbose: s.Verbose})
	return cfg
}

// child is a member's process.
type child struct {
	link   *link
	token  atomic.Pointer[Token] // nil while the module is being loaded
	opened chan struct{}         // closed when it has been, or cannot be

	mu       sync.Mutex
	calls    map[uint64]*asked   // those under way; guarded by mu
	rings    map[*Keyring]uint64 // the numbers of the keyrings that an epoch may have; guarded by mu
	lastRing uint64              // the one that was told last; guarded by mu
}

// asked is a call under way.
type asked struct {
	message
	child *child
	told  chan message  // what the parent answers to what the call asks
	over  chan struct{} // closed when it has been answered, which a call that is stuck may outlive
}

// open loads the module and opens the token, as often as it takes.
func (c *child) open(alive context.Context, cfg Config) {
	t, err := newToken(cfg)
	defer close(c.opened)
	if err != nil {
		c.tell(event{Unfit: err.Error()})
		return
	}
	t.announce = func(s Status) { c.tell(event{State: &s}) }
	t.keysChanged = func() {
		if found := c.keysOf(t); found != nil {
			c.tell(event{Keys: found})
		}
	}
	c.token.Store(t)
	c.tell(event{Loaded: true})
	var running sync.WaitGroup // which nobody waits for: the process ends as a whole
	t.launch(alive, &running)
	<-t.firstTry()
	c.tell(event{Tried: true})
}

// take does what a message asks for, without waiting for any of it.
func (c *child) take(alive context.Context, m message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	under := c.calls[m.id]
	switch {
	case m.kind == kindCall && under == nil:
		a := &asked{message: m, child: c, told: make(chan message, 1), over: make(chan struct{})}
		c.calls[m.id] = a
		go c.serve(alive, a)
	case m.kind == kindTell && under != nil:
		select {
		case under.told <- m:
		default: // it has not asked
		}
	}
}

// serve does one call and answers it. How long somebody waits for the answer is the parent's
// matter: it has admitted the call, and what is in the token cannot be cancelled.
func (c *child) serve(ctx context.Context, a *asked) {
	began := time.Now()
	out, err := c.perform(ctx, a)
	c.mu.Lock()
	delete(c.calls, a.id)
	c.mu.Unlock()
	close(a.over)
	a.wipe()
	answer := message{id: a.id, kind: kindAnswer, op: a.op}
	v := vitals{took: int64(time.Since(began))}
	if t := c.token.Load(); t != nil {
		s := t.Stats()
		v.created, v.destroyed, v.signed = int64(s.EphemeralCreated), int64(s.EphemeralDestroyed), t.signed.Load()
	}
	answer.fields = append([][]byte{v.field()}, out...)
	if err != nil {
		answer.kind, answer.fields = kindFailed, [][]byte{v.field(), packError(err)}
	}
	c.send(answer)
	wipeAll(out)
}

// perform calls the operation. A panic is the answer to the call that it is about, and its
// value, which may hold what was being worked on, is not told.
func (c *child) perform(ctx context.Context, a *asked) (out [][]byte, err error) {
	defer func() {
		if recover() != nil {
			out, err = nil, errBindingPanic
		}
	}()
	if int(a.op) >= len(operations) || len(a.fields) != operations[a.op].fields {
		return nil, errMessage
	}
	if a.op == opUse { // which may be told to a child that has only just begun
		<-c.opened
	}
	t := c.token.Load()
	switch {
	case a.op == opBeat:
		return nil, nil
	case t == nil:
		return nil, &unavailable{err: errNotOpened, after: time.Second}
	}
	return operations[a.op].do(ctx, t, a)
}

// ask has the parent compute a seal's OtherInfo and associated data: what they are made of
// is the caller's code. Nothing comes back for a call that nobody waits for any more.
func (a *asked) ask(point []byte) (otherInfo, aad []byte) {
	select {
	case <-a.over:
		return nil, nil
	default:
	}
	a.child.send(message{id: a.id, kind: kindAsk, fields: [][]byte{point}})
	select {
	case m := <-a.told:
		if len(m.fields) > 0 {
			otherInfo = m.fields[0]
		}
		if len(m.fields) > 1 {
			aad = m.fields[1]
		}
	case <-a.over:
	}
	return otherInfo, aad
}

// send sends a message. If it cannot be, the parent is gone, and the reader ends the process.
func (c *child) send(m message) { _ = c.link.send(context.Background(), m) }

// event is something that has happened: one of these.
type event struct {
	Loaded bool       `json:",omitempty"` // the library is loaded
	Unfit  string     `json:",omitempty"` // it cannot ever be
	Tried  bool       `json:",omitempty"` // the token has been opened, or could not be, once
	State  *Status    `json:",omitempty"`
	Keys   *keysFound `json:",omitempty"`
	Log    *logLine   `json:",omitempty"`
	Call   *ownCall   `json:",omitempty"`
}

func (c *child) tell(e event) {
	b, err := json.Marshal(e)
	if err != nil { // all of it is data
		return
	}
	c.send(message{kind: kindEvent, fields: [][]byte{b}})
}

// keysFound are the keys of the keyring as the current epoch has them.
type keysFound struct {
	Ring uint64 // the keyring's number
	Keys []keyFound
}

type keyFound struct {
	Name    string
	Problem KeyProblem `json:",omitempty"`
	Public  []byte     `json:",omitempty"` // SubjectPublicKeyInfo (DER) of what the pin answers for
}

// keysOf gives them; nil if there is no epoch.
func (c *child) keysOf(t *Token) *keysFound {
	e := t.current.Load()
	if e == nil {
		return nil
	}
	found := &keysFound{Ring: c.numberOf(e.ring)}
	for _, listed := range e.ring.Keys {
		k := e.keys[listed.Name]
		if k == nil {
			continue
		}
		one := keyFound{Name: k.Name, Problem: k.problemNow()}
		if k.pub != nil {
			one.Public, _ = x509.MarshalPKIXPublicKey(k.pub) // of the kinds that the pin was computed for
		}
		found.Keys = append(found.Keys, one)
	}
	return found
}

// ownCall is a unit of work that the child did of itself.
type ownCall struct {
	Op, Lane       string
	Queued, InUnit time.Duration
	Outcome        string
}

// tellingObserver tells the parent of calls that the parent has not made.
type tellingObserver struct{ child *child }

func (o tellingObserver) TokenCall(op, lane string, queued, inToken time.Duration, outcome string) {
	if op == opKeepAlive || op == opRecheckKey {
		o.child.tell(event{Call: &ownCall{op, lane, queued, inToken, outcome}})
	}
}

// MemberState is told by condition.announce, with more.
func (o tellingObserver) MemberState(_, _ string) {}

// logLine is a line of the child's log.
type logLine struct {
	Level   slog.Level
	Message string
	Attrs   []any // key, value, key, value
}

// tellingHandler has the parent write what the child logs: one log, one form, one net for
// what must not be in it.
type tellingHandler struct {
	child   *child
	verbose bool
	attrs   []any
}

func (h tellingHandler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || h.verbose
}

func (h tellingHandler) Handle(_ context.Context, r slog.Record) error {
	line := logLine{Level: r.Level, Message: r.Message, Attrs: append([]any{}, h.attrs...)}
	r.Attrs(func(a slog.Attr) bool {
		line.Attrs = append(line.Attrs, a.Key, plain(a.Value))
		return true
	})
	h.child.tell(event{Log: &line})
	return nil
}

func (h tellingHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.attrs = append([]any{}, h.attrs...)
	for _, a := range attrs {
		h.attrs = append(h.attrs, a.Key, plain(a.Value))
	}
	return h
}

func (h tellingHandler) WithGroup(string) slog.Handler { return h } // which this package has none of

// plain is a value as JSON carries it.
func plain(v slog.Value) any {
	switch v = v.Resolve(); v.Kind() {
	case slog.KindInt64, slog.KindUint64, slog.KindBool:
		return v.Any()
	default:
		return v.String()
	}
}

// orphaned is why a process is no member's process.
func orphaned(why string) error {
	return fmt.Errorf("%s is started by mintmark itself, for a member with hsm.isolation: process; %s", MemberCommand, why)
}

// socketFile is the end of the socket that the parent gave.
func socketFile() *os.File { return os.NewFile(socketFD, "parent") }

// socketFD is the first descriptor after the standard ones.
const socketFD = 3
