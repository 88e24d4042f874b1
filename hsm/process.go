package hsm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"sync"
	"time"
)

// process is one child of a member, from its start to its end.
type process struct {
	link  *link
	cmd   *exec.Cmd
	ended <-chan struct{} // closed when the process has ended

	// owner is told what the child says and, last, that it is lost: before anybody who waits is
	// let go. news is held meanwhile, so that nothing is heard of a child that is lost.
	owner owner
	news  sync.Mutex

	mu      sync.Mutex
	waiting map[uint64]*waiter // by the number of their call; guarded by mu
	last    uint64             // number given out; guarded by mu
	over    bool               // guarded by mu

	gone context.Context // ends when nothing more can come from the child
	end  context.CancelFunc
}

// owner is whose child a process is.
type owner interface {
	// told takes note of an event. Its error is a reason to give the child up.
	told(e event) error
	alive(v vitals)
	lost(cause error)
}

// waiter is somebody who waits for a call's answer.
type waiter struct {
	answers chan message // room for a question and the answer after it
	left    bool         // nobody waits any more; guarded by process.mu
	release func()       // called once, when the child has no more to do with the call
}

var (
	errProcessLost  = errors.New("the module's process has ended")
	errProcessStuck = errors.New("the module's process does not answer")
)

// begin makes a process of a link and a started command. Nothing that comes is read yet.
func (p *process) begin() {
	p.waiting = map[uint64]*waiter{}
	p.gone, p.end = context.WithCancel(context.Background())
}

// lose gives the process up: whoever waits for it is let go, and it is killed if it still
// runs. The first cause counts.
func (p *process) lose(cause error) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over = true
	all := p.waiting
	p.waiting = nil
	p.mu.Unlock()
	p.news.Lock()
	p.owner.lost(cause)
	p.news.Unlock()
	p.end()
	_ = p.link.conn.Close()
	_ = p.cmd.Process.Kill() // it may have ended
	for _, w := range all {
		w.release()
	}
}

// read takes what the child sends until it ends.
func (p *process) read() {
	for {
		m, err := readMessage(p.link.conn)
		if err != nil {
			p.lose(errProcessLost)
			return
		}
		if err := p.take(m); err != nil {
			p.lose(err)
			return
		}
	}
}

// take hands one message to whom it is for. An error is a reason to give the child up.
func (p *process) take(m message) error {
	switch {
	case m.kind == kindEvent && len(m.fields) == 1:
		var e event
		if json.Unmarshal(m.fields[0], &e) != nil {
			return errMessage
		}
		return p.tell(func() error { return p.owner.told(e) })
	case m.kind == kindAsk && len(m.fields) == 1:
		return p.deliver(m)
	case (m.kind == kindAnswer || m.kind == kindFailed) && len(m.fields) > 0:
		v, ok := asVitals(m.fields[0])
		if !ok {
			return errMessage
		}
		_ = p.tell(func() error { p.owner.alive(v); return nil })
		return p.deliver(m)
	default:
		return errMessage
	}
}

// tell tells the owner something, unless it has been told that the child is lost.
func (p *process) tell(what func() error) error {
	p.news.Lock()
	defer p.news.Unlock()
	p.mu.Lock()
	over := p.over
	p.mu.Unlock()
	if over {
		return errProcessLost
	}
	return what()
}

// deliver gives a question or an answer to whoever waits for it.
func (p *process) deliver(m message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.waiting[m.id]
	switch {
	case p.over:
		m.wipe()
		return errProcessLost
	case w == nil && m.kind == kindAsk:
		return nil // of a call that was stuck, and answered
	case w == nil:
		return errMessage
	}
	if m.kind != kindAsk {
		delete(p.waiting, m.id)
		w.release()
	}
	if w.left {
		p.discard(m)
		return nil
	}
	select {
	case w.answers <- m:
		return nil
	default: // a second question before the first was answered
		return errMessage
	}
}

// expect gives a number to a call, and somebody to take the answer.
func (p *process) expect(release func()) (uint64, *waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		release()
		return 0, nil, errProcessLost
	}
	p.last++
	w := &waiter{answers: make(chan message, 2), release: release}
	p.waiting[p.last] = w
	return p.last, w, nil
}

// leave says that nobody waits for a call any more. The child goes on with it.
func (p *process) leave(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.left = true
	for len(w.answers) > 0 {
		p.discard(<-w.answers)
	}
}

// unsent says that a call has not been sent.
func (p *process) unsent(id uint64, w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[id] == w {
		delete(p.waiting, id)
		w.release()
	}
}

// discard overwrites what nobody takes. A question is answered all the same: the call would
// wait for it.
func (p *process) discard(m message) {
	m.wipe()
	if m.kind == kindAsk {
		go func() { _ = p.send(p.gone, message{id: m.id, kind: kindTell}) }()
	}
}

// send sends a message. If the child cannot be written to, it is lost.
func (p *process) send(ctx context.Context, m message) error {
	err := p.link.send(ctx, m)
	if err == nil || errors.Is(err, errNotSent) {
		return err
	}
	p.lose(errProcessLost)
	return errProcessLost
}

// request is one call of an operation.
type request struct {
	op     op
	fields [][]byte
	// tell answers the question that the operation asks, if it asks one.
	tell func(question []byte) [][]byte
}

// exchange makes one call and waits for the answer; took is the time it spent in the child.
// release is called when the child has no more to do with the call, which may be after
// exchange has returned. The error is the child's answer, errLate, errNotSent, or
// errProcessLost.
func (p *process) exchange(ctx context.Context, r request, release func()) (out [][]byte, took time.Duration, err error) {
	id, w, err := p.expect(release)
	if err != nil {
		return nil, 0, err
	}
	settled := false // also when what answers a question panics
	defer func() {
		if !settled {
			p.leave(w)
		}
	}()
	if err := p.send(ctx, message{id: id, kind: kindCall, op: r.op, fields: r.fields}); err != nil {
		settled = true
		p.unsent(id, w)
		return nil, 0, err
	}
	for {
		m, err := p.await(ctx, w)
		if err == nil && m.kind == kindAsk {
			err = p.answer(ctx, r, m)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return nil, 0, err
		}
		settled = true
		v, _ := asVitals(m.fields[0])
		if m.kind == kindFailed {
			return nil, time.Duration(v.took), unpackError(bytes.Join(m.fields[1:], nil))
		}
		return m.fields[1:], time.Duration(v.took), nil
	}
}

// answer answers a call's question. The child waits for it: it gets an empty answer where
// there is none.
func (p *process) answer(ctx context.Context, r request, question message) error {
	answered := false
	defer func() {
		if !answered {
			p.discard(question)
		}
	}()
	if r.tell == nil { // it has lost its wits
		p.lose(errMessage)
		return errProcessLost
	}
	err := p.send(ctx, message{id: question.id, kind: kindTell, fields: r.tell(question.fields[0])})
	answered = err == nil
	return err
}

// await gives the next message for a call.
func (p *process) await(ctx context.Context, w *waiter) (message, error) {
	var err error
	select {
	case m := <-w.answers:
		return m, nil
	case <-ctx.Done():
		err = errLate
	case <-p.gone.Done():
		err = errProcessLost
	}
	select {
	case m := <-w.answers: // it came in time
		return m, nil
	default:
		return message{}, err
	}
}
