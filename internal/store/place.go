package store

import "math"

// logNumber is the number of a log in its database.
//
// The tables have one column for both: an entry's place is the log's number times 2^48 and
// its sequence number, and a checkpoint's size likewise. A log is a range of places, which
// the key finds, and log 0 is what a database with one log has always held. Nothing outside
// this package sees a place.
type logNumber int64

const (
	seqBits = 48
	// maxLogs bounds the logs of a database. A log is there for good, and each is verified.
	maxLogs = 64
)

// first is the place of the log's entry 0.
func (n logNumber) first() int64 { return int64(n) << seqBits }

// last is the last place that the log has.
func (n logNumber) last() int64 { return n.first() + 1<<seqBits - 1 }

// place is that of a sequence number. One that no log can reach has the place after the last.
func (n logNumber) place(seq uint64) int64 {
	if seq >= 1<<seqBits {
		if n.last() == math.MaxInt64 {
			return math.MaxInt64
		}
		return n.last() + 1
	}
	return n.first() + int64(seq)
}

// seq is what place was made of.
func (n logNumber) seq(place int64) uint64 { return uint64(place - n.first()) }

// logOf is the log that a place is in.
func logOf(place int64) logNumber { return logNumber(place >> seqBits) }
