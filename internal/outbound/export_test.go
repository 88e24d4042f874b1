package outbound

import (
	"net"
	"net/netip"
)

// Resolve has names resolved by r.
func (c *Client) Resolve(r *net.Resolver) { c.dialer.Resolver = r }

// Allows reports whether a client with this list would connect to the address.
func Allows(listed []netip.Prefix, network, address string) bool {
	return guard(listed).control(network, address, nil) == nil
}
