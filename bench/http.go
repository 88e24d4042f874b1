package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// HTTP is requests to a server in a closed loop, on one connection a client. The client
// does little: its processor time is the server's competition.
type HTTP struct {
	Address string // host:port, plain HTTP
	Server  Family // whose CPU is measured
	// Request gives a client's next request as it goes over the wire.
	Request func(client int) ([]byte, error)
	// Statuses are those that count as done. 503 is counted as refused; every other ends the
	// measurement with an error.
	Statuses []int
}

// answerWithin bounds one exchange.
const answerWithin = 30 * time.Second

// Measure is a Subject's.
func (h HTTP) Measure(clients int, d time.Duration) (Point, error) {
	conns := make([]*conn, clients)
	for i := range conns {
		c, err := net.Dial("tcp", h.Address)
		if err != nil {
			return Point{}, err
		}
		defer func() { _ = c.Close() }()
		conns[i] = &conn{c, bufio.NewReader(c)}
	}
	return Loop(clients, d, h.Server.CPU, func(client int) error {
		request, err := h.Request(client)
		if err != nil {
			return err
		}
		return conns[client].exchange(request, h.Statuses)
	})
}

type conn struct {
	net.Conn
	answers *bufio.Reader
}

// exchange sends a request and reads its answer to the end.
func (c *conn) exchange(request []byte, statuses []int) error {
	if err := c.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	for _, want := range statuses {
		if res.StatusCode == want {
			_, err = io.Copy(io.Discard, res.Body)
			return err
		}
	}
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode == http.StatusServiceUnavailable {
		return ErrRefused
	}
	return fmt.Errorf("answered %d: %s", res.StatusCode, text)
}

// Wire is a request as it goes over the wire. Without a body it has none.
func Wire(method, address, path string, header map[string]string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, address)
	for name, value := range header {
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	if body != nil || method != http.MethodGet {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}
