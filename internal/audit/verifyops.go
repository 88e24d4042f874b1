package audit

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mintmark/mintmark/internal/record"
)

// BusinessKind says what a business row is.
type BusinessKind string

// The kinds of rows that cannot be without an entry.
const (
	UsedNonce  BusinessKind = "used nonce"
	StoredCard BusinessKind = "card"
	PassFile   BusinessKind = "file of passes"
	PassType   BusinessKind = "pass type"
	Pass       BusinessKind = "pass"
	// A change that two people make: one row as it was proposed, with its proposer, and one
	// more when it was applied, with who approved.
	ProposedChange BusinessKind = "proposed change"
	AppliedChange  BusinessKind = "applied change"
	// A decision and a passcode are named by RowOf: what they say cannot be changed either.
	// That a passcode was verified is a row more, with the time.
	StoredDecision   BusinessKind = "decision"
	SentPasscode     BusinessKind = "passcode"
	VerifiedPasscode BusinessKind = "verified passcode"
	// A state of a wallet token, the present one and those before, and an enablement are named
	// by RowOf. All are kept for good. Of a wallet token itself the revisions are counted, so
	// that it cannot be put back to an earlier state.
	WalletTokenState BusinessKind = "state of wallet token"
	WalletToken      BusinessKind = "wallet token"
	Enablement       BusinessKind = "enablement"
)

// ChangeRow names such a row: the change, the digest of its document, and the person.
func ChangeRow(change, sha256, iss, sub string) string {
	return strings.Join([]string{change, sha256, iss, sub}, " ")
}

// RowOf names a row by its identifier and what else of it the entry holds.
func RowOf(id, what string) string { return id + " " + what }

// A BusinessRow is a row that an operation made.
type BusinessRow struct {
	Kind   BusinessKind
	Tenant string
	ID     string
	At     time.Time // at which it was there, or later
	// Version is by how many operations the row became what it is; 0 for rows that are
	// written once. Rows that the record does not tell apart may share an ID.
	Version uint64
}

// BusinessRows reads them.
type BusinessRows interface {
	BusinessRows(ctx context.Context, visit func(BusinessRow) error) error
}

// rowKey stands for a row in memory: a log has many.
type rowKey [16]byte

func keyOf(kind BusinessKind, tenant, id string) rowKey {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d\x00%s%s", kind, len(tenant), tenant, id))
	return rowKey(sum[:16])
}

// place is where an entry is.
type place struct {
	log *verifier
	seq uint64
}

// from names the place for somebody who reads a log.
func (p place) from(reader *verifier) string {
	if p.log == reader {
		return fmt.Sprintf("entry %d", p.seq)
	}
	return fmt.Sprintf("entry %d of log %s", p.seq, p.log.log)
}

// ledger holds the business rows against the entries of all logs together: an operation is on
// record in the log of the process that did it, whichever that was.
type ledger struct {
	source     BusinessRows
	rows       map[rowKey]bool // whether an entry was found
	used       map[rowKey]place
	made       map[rowKey]*made // of rows with versions
	expiredAt  time.Time        // of the newest entry without body; zero if there is none
	unprovable uint64
	lost       []string // rows without an entry, at most maxFaults
}

func newLedger(source BusinessRows) *ledger {
	return &ledger{source: source, rows: map[rowKey]bool{}, used: map[rowKey]place{}, made: map[rowKey]*made{}}
}

// read reads the rows, when the sizes of the logs are known and before their entries.
func (l *ledger) read(ctx context.Context) error {
	if l.source == nil {
		return nil
	}
	return l.source.BusinessRows(ctx, func(r BusinessRow) error {
		if r.versioned() {
			l.madeOf(keyOf(r.Kind, r.Tenant, r.ID)).version += r.Version
			return nil
		}
		l.rows[keyOf(r.Kind, r.Tenant, r.ID)] = false
		return nil
	})
}

func (l *ledger) lose(format string, a ...any) {
	if len(l.lost) < maxFaults {
		l.lost = append(l.lost, fmt.Sprintf(format, a...))
	}
}

func (l *ledger) found(key rowKey) {
	if _, there := l.rows[key]; there {
		l.rows[key] = true
	}
}

// finish says which rows are left without an entry, when all logs have been read.
func (l *ledger) finish(ctx context.Context) error {
	if l.source == nil {
		return nil
	}
	l.older()
	return l.source.BusinessRows(ctx, func(r BusinessRow) error {
		if r.versioned() {
			l.newer(r)
			return nil
		}
		found, known := l.rows[keyOf(r.Kind, r.Tenant, r.ID)]
		switch {
		case found || !known: // or made meanwhile
		case !l.expiredAt.IsZero() && !r.At.After(l.expiredAt.Add(rowSlack)):
			l.unprovable++
		default:
			l.lose("missing: %s %s of tenant %s is in the database and no entry says how it got there", r.Kind, r.ID, r.Tenant)
		}
		return nil
	})
}

// operations holds the results of one log against its intents, and both against the business
// rows.
type operations struct {
	*ledger
	open map[string]openOperation // by ticket
	size uint64                   // entries when the rows were read

	live    bool   // an entry with a body was seen
	odd     uint64 // the number after the first entry without body that follows one with
	expired uint64 // entries without body: the number after the last
	allowed uint64 // the number before which bodies may be gone
}

// openOperation is an intent whose result has not come yet.
type openOperation struct {
	row    Row
	intent record.Intent
}

func (o *operations) entry(f *verifier, r Row) {
	if r.Expired() {
		o.expired = r.Seq + 1
		if r.At.After(o.expiredAt) {
			o.expiredAt = r.At
		}
		if o.live && o.odd == 0 {
			o.odd = r.Seq + 1
		}
	}
	o.live = o.live || !r.Expired()
	switch r.Kind {
	case KindIntent:
		o.intent(f, r)
	case KindResult:
		o.result(f, r)
	case KindOperation:
		o.whole(f, r)
	case KindLifecycle:
		o.retention(f, r)
	case KindRefusal:
	default:
		f.fault(r.Seq, "it is of a kind that does not exist: %q", r.Kind)
	}
}

// retention takes note of what bodies may be gone. What was expired was there before.
func (o *operations) retention(f *verifier, r Row) {
	var body retention
	if json.Unmarshal(r.Body, &body) != nil || body.Event != eventRetention {
		return
	}
	if body.Before > r.Seq {
		f.fault(r.Seq, "it expires entries that come after it, those before %d", body.Before)
		return
	}
	o.allowed = max(o.allowed, body.Before)
}

func (o *operations) intent(f *verifier, r Row) {
	op := openOperation{row: r}
	if !r.Expired() && json.Unmarshal(r.Body, &op.intent) != nil {
		f.fault(r.Seq, "its body is no intent")
	}
	if _, twice := o.open[r.Ticket]; twice {
		f.fault(r.Seq, "ticket %s has two intents", r.Ticket)
	}
	o.open[r.Ticket] = op
}

func (o *operations) result(f *verifier, r Row) {
	op, ok := o.open[r.Ticket]
	if !ok {
		f.fault(r.Seq, "ticket %s has a result and no intent", r.Ticket)
		return
	}
	delete(o.open, r.Ticket)
	if r.Expired() || op.row.Expired() {
		return
	}
	var res record.Result
	if json.Unmarshal(r.Body, &res) != nil {
		f.fault(r.Seq, "its body is no result")
		return
	}
	o.done(f, r, op.intent, res)
}

func (o *operations) whole(f *verifier, r Row) {
	if r.Expired() {
		return
	}
	var body operation
	if json.Unmarshal(r.Body, &body) != nil {
		f.fault(r.Seq, "its body is no operation")
		return
	}
	o.done(f, r, body.Intent, body.Result)
}

// done takes an operation that ended into account. Which rows an operation makes stands
// here a second time, so that the domains do not vouch for themselves.
func (o *operations) done(f *verifier, r Row, in record.Intent, res record.Result) {
	if res.Outcome != record.OutcomeDone {
		return
	}
	switch in.Operation {
	case record.SignCard:
		key := keyOf(UsedNonce, in.Tenant, in.Refs["nonceClaim"])
		if first, twice := o.used[key]; twice {
			f.fault(r.Seq, "it uses the nonce that %s used", first.from(f))
		}
		o.used[key] = place{f, r.Seq}
		if !o.kept(key, r.Seq) {
			f.fault(r.Seq, "its row is missing: nonce claim %s of tenant %s is not marked as used", in.Refs["nonceClaim"], in.Tenant)
		}
	case record.StoreCard:
		// A card that was stored again has a new row: the old one may be gone.
		o.found(keyOf(StoredCard, in.Tenant, in.Refs["card"]))
	case record.PutPassAsset:
		// A file that nothing used may be gone.
		o.found(keyOf(PassFile, in.Tenant, in.Refs["sha256"]))
	case record.PutPassType:
		o.wrote(f, keyOf(PassType, in.Tenant, in.Refs["passType"]), r.Seq)
	case record.PutPass, record.VoidPass, record.PersonalizePass:
		o.wrote(f, keyOf(Pass, in.Tenant, in.Refs["passType"]+"/"+in.Refs["serial"]), r.Seq)
	case record.DecideProvisioning:
		// A decision that no longer counts may be gone, and so may a passcode.
		o.found(keyOf(StoredDecision, in.Tenant, RowOf(res.Refs["decision"], res.Refs["stateSha256"])))
	case record.SendPasscode:
		o.found(keyOf(SentPasscode, in.Tenant, RowOf(res.Refs["passcode"], res.Refs["stateSha256"])))
	case record.VerifyPasscode:
		o.found(keyOf(VerifiedPasscode, in.Tenant, RowOf(in.Refs["passcode"], res.Refs["verifiedAt"])))
	case record.PutWalletToken:
		o.token(f, r, in.Tenant, in.Refs)
	case record.ActivateToken:
		o.token(f, r, in.Tenant, res.Refs)
	case record.PutEnablement:
		if !o.kept(keyOf(Enablement, in.Tenant, RowOf(in.Refs["revision"], in.Refs["rulesSha256"])), r.Seq) {
			f.fault(r.Seq, "its row is missing or says something else: enablement %s of tenant %s", in.Refs["revision"], in.Tenant)
		}
	case record.ProposeChange:
		o.found(keyOf(ProposedChange, in.Tenant, ChangeRow(in.Refs["change"], in.Refs["sha256"], in.Issuer, in.Subject)))
	case record.ApproveChange:
		o.found(keyOf(AppliedChange, in.Tenant, ChangeRow(in.Refs["change"], in.Refs["sha256"], in.Issuer, in.Subject)))
	}
}

// token takes a new state of a wallet token into account, if the operation made one.
func (o *operations) token(f *verifier, r Row, tenant string, refs map[string]string) {
	if refs["revision"] == "" {
		return
	}
	o.wrote(f, keyOf(WalletToken, tenant, refs["walletToken"]), r.Seq)
	if !o.kept(keyOf(WalletTokenState, tenant, RowOf(refs["walletToken"], refs["stateSha256"])), r.Seq) {
		f.fault(r.Seq, "its row is missing or says something else: revision %s of wallet token %s of tenant %s", refs["revision"], refs["walletToken"], tenant)
	}
}

// kept is found, of a row that is never removed. It reports false if the row should be there
// and is not.
func (o *operations) kept(key rowKey, seq uint64) bool {
	o.found(key)
	_, there := o.rows[key]
	return there || o.source == nil || seq >= o.size
}

// finish says what is left in the log: bodies that are gone, and intents without a result.
func (o *operations) finish(f *verifier) {
	if o.expired > o.allowed {
		first := o.allowed
		if o.odd > o.allowed {
			first = o.odd - 1
		}
		f.fault(first, "its body is gone, and no retention on record says that it may be (those before %d may)", o.allowed)
	}
	for _, op := range o.open {
		f.report.Open = append(f.report.Open, op.row)
	}
	slices.SortFunc(f.report.Open, func(a, b Row) int { return cmp.Compare(a.Seq, b.Seq) })
}

// rowSlack is by how much a row's time may lie after its entry's: a nonce's is the end of
// its lease.
const rowSlack = 24 * time.Hour
