package outbound

import (
	"context"
	"net"
)

// Dial connects as the client itself does, with the same guard over addresses, for those
// whose protocol needs a connection of its own: a push service that knows us by our
// certificate. What is spoken on it is theirs to secure.
func (c *Client) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, err := c.dialer.DialContext(ctx, network, address)
	if err != nil {
		host, _, _ := net.SplitHostPort(address)
		return nil, newError(ctx, host, err)
	}
	return conn, nil
}
