package hsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/mintmark/mintmark/internal/secret"
)

// A member's process and the process that it works for talk in messages over one socket:
//
//	4 bytes  length of what follows
//	8 bytes  number of the call that the message is about; 0 for none
//	1 byte   kind
//	1 byte   operation, of a call
//	         then fields, each behind 4 bytes with its length
//
// Numbers are big-endian. Buffers are overwritten after use at either end, since a field may
// be a card; what the kernel keeps of a socket's buffers is not ours to overwrite. The PIN
// is in no message: the process that logs in reads the file.
type message struct {
	id     uint64
	kind   messageKind
	op     op
	fields [][]byte
	body   []byte // which the fields are parts of, in a message that was received
}

// messageKind is what a message is.
type messageKind byte

const (
	kindHello  messageKind = iota // to the child, once: its configuration (JSON)
	kindCall                      // to the child: do this
	kindAnswer                    // from the child: vitals, and what the operation gives
	kindFailed                    // from the child: vitals, and an error (JSON)
	kindAsk                       // from the child, under a seal: its ephemeral public key
	kindTell                      // to the child: OtherInfo and the associated data, or nothing if nobody waits any more
	kindEvent                     // from the child: what has happened (JSON)
)

const (
	headerSize = 4 + 8 + 1 + 1
	// maxMessage bounds a message in bytes. The largest are lists of keys.
	maxMessage = 16 << 20
)

var errMessage = errors.New("malformed message of a member's process")

// encode gives the message as it goes over the wire.
func (m message) encode() ([]byte, error) {
	size := headerSize
	for _, f := range m.fields {
		size += 4 + len(f)
	}
	if size > maxMessage {
		return nil, fmt.Errorf("%d bytes are too many for a member's process", size)
	}
	b := make([]byte, 0, size)
	b = binary.BigEndian.AppendUint32(b, uint32(size-4))
	b = binary.BigEndian.AppendUint64(b, m.id)
	b = append(b, byte(m.kind), byte(m.op))
	for _, f := range m.fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b, nil
}

// readMessage reads one message. An error, also one of form, leaves the stream useless.
func readMessage(r io.Reader) (message, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return message{}, err
	}
	size := binary.BigEndian.Uint32(header[:])
	if size < headerSize-4 || size > maxMessage-4 {
		return message{}, errMessage
	}
	m := message{
		id: binary.BigEndian.Uint64(header[4:]), kind: messageKind(header[12]), op: op(header[13]),
		body: make([]byte, size-(headerSize-4)),
	}
	if _, err := io.ReadFull(r, m.body); err != nil {
		return message{}, err
	}
	for rest := m.body; len(rest) > 0; {
		if len(rest) < 4 {
			return message{}, errMessage
		}
		n := uint64(binary.BigEndian.Uint32(rest))
		if n > uint64(len(rest)-4) {
			return message{}, errMessage
		}
		m.fields = append(m.fields, rest[4:4+n:4+n])
		rest = rest[4+n:]
	}
	return m, nil
}

// wipe overwrites a message that was received.
func (m message) wipe() { secret.Wipe(m.body) }

// link is one end of the socket.
type link struct {
	conn net.Conn
	turn chan struct{} // held by the one who writes
}

func newLink(conn net.Conn) *link { return &link{conn: conn, turn: make(chan struct{}, 1)} }

// errNotSent is returned for a message of which nothing was sent, since the context ended.
var errNotSent = errors.New("not sent")

// send sends a message. After an error other than errNotSent the link is of no more use.
func (l *link) send(ctx context.Context, m message) error {
	b, err := m.encode()
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	defer secret.Wipe(b)
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return errNotSent
	}
	defer func() { <-l.turn }()
	_, err = l.conn.Write(b)
	return err
}

// number is a field with a number.
func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// asNumber reads such a field; 0 if it is none.
func asNumber(b []byte) int64 {
	if len(b) != 8 {
		return 0
	}
	return int64(binary.BigEndian.Uint64(b))
}

// vitals go with each answer: how long the call took in the child, and the child's counts.
type vitals struct{ took, created, destroyed, signed int64 }

func (v vitals) field() []byte {
	b := make([]byte, 0, 4*8)
	for _, n := range []int64{v.took, v.created, v.destroyed, v.signed} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return b
}

func asVitals(b []byte) (v vitals, ok bool) {
	if len(b) != 4*8 {
		return v, false
	}
	return vitals{asNumber(b[:8]), asNumber(b[8:16]), asNumber(b[16:24]), asNumber(b[24:])}, true
}
