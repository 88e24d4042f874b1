package audit

// made is what is known of a row with versions.
type made struct {
	version uint64 // that it had when the rows were read
	before  uint64 // operations on it, of entries that were there before the rows were read
	all     uint64 // operations on it
	last    place  // of the last of before
}

// versioned reports whether a row's version is the number of operations on it.
func (r BusinessRow) versioned() bool {
	return r.Kind == Pass || r.Kind == PassType || r.Kind == WalletToken
}

func (l *ledger) madeOf(key rowKey) *made {
	m := l.made[key]
	if m == nil {
		m = &made{}
		l.made[key] = m
	}
	return m
}

// wrote counts an operation that made the next version of a row.
func (o *operations) wrote(f *verifier, key rowKey, seq uint64) {
	if o.source == nil {
		return
	}
	m := o.madeOf(key)
	m.all++
	if seq < o.size {
		m.before, m.last = m.before+1, place{f, seq}
	}
}

// older finds rows of fewer versions than entries say: the row was removed, or put back to
// what it was.
func (l *ledger) older() {
	for _, m := range l.made {
		if m.version < m.before {
			m.last.log.fault(m.last.seq, "its row is missing or older: the database has version %d of what %d entries changed", m.version, m.before)
		}
	}
}

// newer finds a row of more versions than entries say. Where entries have expired, they may
// have said so.
func (l *ledger) newer(r BusinessRow) {
	m := l.made[keyOf(r.Kind, r.Tenant, r.ID)]
	if m == nil || m.version <= m.all { // or made meanwhile
		return
	}
	if !l.expiredAt.IsZero() {
		l.unprovable++
	} else {
		l.lose("missing: %s %s of tenant %s is in the database in version %d, and %d entries say how it got there", r.Kind, r.ID, r.Tenant, m.version, m.all)
	}
	m.version = m.all // rows that share an ID are told once
}
