package audit

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// SyslogAnchor sends checkpoints to a syslog server (RFC 5424), a message each, with the
// facility "log audit" and the severity "notice". Over TCP and TLS messages are framed by
// their length (RFC 6587, RFC 5425). A server does not answer: that a message was sent is
// all that can be known.
type SyslogAnchor struct {
	Network string      // unixgram, tcp or tls
	Address string      // a path, or host:port
	TLS     *tls.Config // for tls
	Host    string      // HOSTNAME of the messages

	mu   sync.Mutex // guards conn
	conn net.Conn
}

// Name is "syslog" and the address.
func (s *SyslogAnchor) Name() string { return "syslog " + s.Address }

// priority is facility 13 (log audit), severity 5 (notice).
const priority = 13*8 + 5

// Keep sends a checkpoint; on a connection that has broken meanwhile, once more on a new
// one.
func (s *SyslogAnchor) Keep(ctx context.Context, c Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	message := fmt.Appendf(nil, "<%d>1 %s %s mintmark %d audit-checkpoint - %s",
		priority, time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), s.Host, os.Getpid(), line)
	if s.Network != "unixgram" {
		message = append(fmt.Appendf(nil, "%d ", len(message)), message...)
	}
	kept := s.conn != nil
	err = s.send(ctx, message)
	if err != nil && kept {
		err = s.send(ctx, message)
	}
	return err
}

func (s *SyslogAnchor) send(ctx context.Context, message []byte) error {
	if s.conn == nil {
		if err := s.dial(ctx); err != nil {
			return err
		}
	}
	deadline, _ := ctx.Deadline()
	err := s.conn.SetWriteDeadline(deadline)
	if err == nil {
		_, err = s.conn.Write(message)
	}
	if err != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
	return err
}

func (s *SyslogAnchor) dial(ctx context.Context) error {
	var err error
	if s.Network == "tls" {
		d := tls.Dialer{Config: s.TLS}
		s.conn, err = d.DialContext(ctx, "tcp", s.Address)
		return err
	}
	var d net.Dialer
	s.conn, err = d.DialContext(ctx, s.Network, s.Address)
	return err
}

// Close closes the connection.
func (s *SyslogAnchor) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}
