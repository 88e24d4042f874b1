package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mintmark/mintmark/internal/record"
)

// An Append is one request to the log: an entry with the rows that belong to it.
type Append struct {
	Entry   Entry // without Seq
	Changes []record.Change

	row  Row
	err  error
	done chan struct{} // closed when err holds
}

// Refuse says that the append's changes cannot be made. It takes no number, and its
// error is err.
func (a *Append) Refuse(err error) { a.err = err }

// Err is why the append was refused; nil if it was not.
func (a *Append) Err() error { return a.err }

// Store keeps the log. A method that fails for a reason of its own gives an error with a
// method RetryAfter. Nothing is retried in it.
type Store interface {
	// Commit writes a batch in one durable transaction. Other writers of the database may have
	// it try again. It applies each append's changes
	// in order; the first of them that cannot be made undoes those of its append, and no
	// other's, and is told to Refuse. Then it asks number for the rows of those that are
	// left, in order, and writes them. An error means that nothing was committed, or that
	// nobody knows: Head says.
	Commit(ctx context.Context, batch []*Append, number func(accepted []*Append) []Row) error
	// Head gives the tree of what is committed.
	Head(ctx context.Context) (*Tree, error)
}

// Bounds of the queue before the log.
const (
	maxQueue     = 4096             // appends that wait; more are told to come back
	maxBatch     = 256              // appends in a transaction
	commitWithin = 10 * time.Second // bounds one transaction
)

// Bounds of gather.
const (
	companions    = 4 // operations under way from which on a commit waits for them
	companyWithin = 2 * time.Millisecond
	aloneFor      = 64 // commits that do not wait after one that waited for nothing
)

// ErrChanged is returned while the database does not hold what this process wrote to it:
// it was rolled back to a copy, or somebody else wrote to the log.
var ErrChanged error = &unavailable{"the database does not hold what was written to it", nil, 30 * time.Second}

// Writer is the log's one writer: it gives entries their place in the tree and commits
// them, many in one transaction. What queued up while one transaction was committed goes
// into the next; a caller that is alone waits for nobody.
//
// Once the database is found not to hold what was committed nothing more is (dispute): an
// entry behind a gap would hide it. What happens meanwhile is on record nowhere, and nothing
// of it leaves.
//
// There may be one writer to a log; the store sees to it.
type Writer struct {
	store Store
	now   func() time.Time

	turn chan struct{} // holds one value while somebody commits
	// underway is how many operations are between their ticket and their result: what the
	// queue may still grow by.
	underway atomic.Int64
	enough   chan struct{} // holds one value when the queue has become as long as wanted
	head     *Tree         // what is committed; nil when that must be read. Owned by who has the turn
	// expect are the trees that reading may give: before and after a commit of which the
	// outcome is not known. Owned by who has the turn.
	expect []*Tree

	mu    sync.Mutex // guards all below; not held across a call of the store
	queue []*Append
	alone int // commits that need not wait
	want  int // the length of the queue that a commit waits for; 0 for none
	state State
}

// State is how far the log is.
type State struct {
	Tree   *Tree     // what is committed; nil until the first commit of this process
	Signed uint64    // the size of the last checkpoint
	Since  time.Time // the oldest entry without a checkpoint is at most as old as this; zero if there is none
	// Disputed is what was committed when the database was found not to hold it; nil while it
	// does, as far as is known.
	Disputed *Tree
}

// Unsigned is the number of entries without a checkpoint.
func (s State) Unsigned() uint64 {
	if s.Tree == nil || s.Tree.Size() < s.Signed {
		return 0
	}
	return s.Tree.Size() - s.Signed
}

// NewWriter gives the writer to a store. now is the clock.
func NewWriter(s Store, now func() time.Time) *Writer {
	return &Writer{store: s, now: now, turn: make(chan struct{}, 1), enough: make(chan struct{}, 1)}
}

// Append commits an entry with its changes, and gives the number it got. The error of a
// change that cannot be made comes back as it is; any other has a method RetryAfter. A
// caller whose context ends while the entry waits takes it back. Once its transaction has
// begun, one that is cancelled still gets the outcome, and can end what the entry began; to
// one whose deadline is over it is not known.
func (w *Writer) Append(ctx context.Context, e Entry, changes []record.Change) (uint64, error) {
	a := &Append{Entry: e, Changes: changes, done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return 0, &unavailable{"caller is gone", err, time.Second}
	}
	if !w.enqueue(a) {
		return 0, &unavailable{"too many entries wait for the log", nil, time.Second}
	}
	for {
		select {
		case <-a.done:
			return a.row.Seq, a.err
		case w.turn <- struct{}{}:
			// Not in this goroutine: a database that hangs must not hold its caller.
			go w.commitQueue()
		case <-ctx.Done():
			if w.takeBack(a) {
				return 0, &unavailable{"caller is gone", ctx.Err(), time.Second}
			}
			if errors.Is(ctx.Err(), context.Canceled) { // who hung up is kept from nothing by waiting
				select {
				case <-a.done:
					return a.row.Seq, a.err
				case <-time.After(commitWithin):
				}
			}
			return 0, &unavailable{"caller is gone while the entry was being committed", ctx.Err(), time.Second}
		}
	}
}

func (w *Writer) enqueue(a *Append) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) >= maxQueue {
		return false
	}
	w.queue = append(w.queue, a)
	if w.want != 0 && len(w.queue) >= w.want {
		w.want = 0
		w.enough <- struct{}{} // is read before there is another want
	}
	return true
}

// takeBack takes an append out of the queue, if it is still there.
func (w *Writer) takeBack(a *Append) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.queue, a)
	if i < 0 {
		return false
	}
	w.queue = slices.Delete(w.queue, i, i+1)
	return true
}

func (w *Writer) next() []*Append {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := min(len(w.queue), maxBatch)
	batch := slices.Clone(w.queue[:n])
	w.queue = slices.Delete(w.queue, 0, n)
	return batch
}

// commitQueue commits until nobody waits, and gives the turn back. Whoever is queued
// after the last look takes the turn himself.
func (w *Writer) commitQueue() {
	defer func() { <-w.turn }()
	w.gather()
	for batch := w.next(); len(batch) != 0; batch = w.next() {
		err := w.commit(batch)
		for _, a := range batch {
			if err != nil {
				// Also of those refused in it: what refused them may be an append of the
				// same batch, which nobody knows the outcome of.
				a.err = err
			}
			close(a.done)
		}
		w.gather()
	}
}

// gather gives the operations that are under way a moment to join what is queued: a commit
// costs the same processor time and the same write to the disk for many entries as for one.
// It waits while there are several, until half of them have come, and not for long.
func (w *Writer) gather() {
	w.mu.Lock()
	queued := len(w.queue)
	if queued == 0 || queued >= maxBatch { // there is no commit, or no room in it
		w.mu.Unlock()
		return
	}
	missing := int(w.underway.Load())
	if w.alone > 0 {
		w.alone--
		missing = 0
	}
	if missing < companions {
		w.mu.Unlock()
		return
	}
	w.want = min(queued+(missing+1)/2, maxBatch)
	w.mu.Unlock()
	timer := time.NewTimer(companyWithin)
	defer timer.Stop()
	select {
	case <-w.enough:
		return
	case <-timer.C:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.want == 0 { // they came just now
		<-w.enough
	}
	w.want = 0
	if len(w.queue) == queued { // they work on something slow, or will not come at all
		w.alone = aloneFor
	}
}

// commit commits one batch. The caller has the turn.
func (w *Writer) commit(batch []*Append) error {
	if w.State().Disputed != nil {
		return errDisputed
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitWithin)
	defer cancel()
	if err := w.readHead(ctx); err != nil {
		return err
	}
	after := w.head.Clone()
	err := w.store.Commit(ctx, batch, func(accepted []*Append) []Row {
		rows := make([]Row, len(accepted))
		for i, a := range accepted {
			a.row = NewRow(a.Entry, after)
			rows[i] = a.row
		}
		return rows
	})
	if err != nil {
		// A crash or a lost connection here leaves either of the two; the next look says.
		w.expect, w.head = []*Tree{w.head, after}, nil
		return err
	}
	w.publish(after)
	return nil
}

// readHead makes sure that the head is known.
func (w *Writer) readHead(ctx context.Context) error {
	if w.head != nil {
		return nil
	}
	head, err := w.store.Head(ctx)
	if err != nil {
		return err
	}
	if w.expect != nil && !slices.ContainsFunc(w.expect, head.Equal) {
		return ErrChanged
	}
	w.expect = nil
	w.publish(head)
	return nil
}

// publish makes a tree the head, and starts the clock of what has no checkpoint.
func (w *Writer) publish(head *Tree) {
	w.head = head
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Tree = head
	if w.state.Since.IsZero() && head.Size() > w.state.Signed {
		w.state.Since = w.now()
	}
}

// State says how far the log is.
func (w *Writer) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// signed says that a checkpoint covers what was committed at a time.
func (w *Writer) signed(size uint64, at time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Signed = max(w.state.Signed, size)
	w.state.Since = time.Time{}
	if w.state.Tree != nil && w.state.Tree.Size() > w.state.Signed {
		w.state.Since = at
	}
}

// dispute says that the database does not hold a tree that was committed: nothing is appended
// until settle. A commit that has begun may still end.
func (w *Writer) dispute(committed *Tree) {
	if committed == nil { // nothing was read yet
		committed = NewTree(0, nil)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.state.Disputed == nil {
		w.state.Disputed = committed
	}
}

// settle says that the database holds what was committed and what was disputed.
func (w *Writer) settle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Disputed = nil
}

// sync makes sure that the head is known, before anything is appended.
func (w *Writer) sync(ctx context.Context) error {
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return &unavailable{"caller is gone", ctx.Err(), time.Second}
	}
	defer func() { <-w.turn }()
	return w.readHead(ctx)
}

// unavailable is an error that passes.
type unavailable struct {
	what  string
	cause error
	after time.Duration
}

func (u *unavailable) Error() string { return fmt.Sprintf("audit log: %s", u.what) }
func (u *unavailable) Unwrap() error { return u.cause }

// RetryAfter is how long a caller should wait before it tries again.
func (u *unavailable) RetryAfter() time.Duration { return u.after }
