package outbound

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
)

// errAddress is what a socket is refused with.
var errAddress = errors.New("address not allowed")

// guard decides which addresses may be connected to. It holds those that may although
// they are not public.
type guard []netip.Prefix

// control is called with the address that a socket is about to connect to.
func (g guard) control(network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || network != "tcp4" && network != "tcp6" || !g.allows(to.Addr()) {
		return errAddress
	}
	return nil
}

func (g guard) allows(a netip.Addr) bool {
	if contains(g, a.WithZone("")) {
		return true
	}
	switch {
	case a.Zone() != "":
		return false
	case a.Is4():
		return !contains(special4, a)
	}
	return global6.Contains(a) && !contains(special6, a)
}

func contains(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// special4 are the IPv4 addresses that are not somebody's on the Internet (IANA IPv4
// Special-Purpose Address Registry, RFC 6890).
var special4 = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),       // this network; 0.0.0.0 reaches this host
	netip.MustParsePrefix("10.0.0.0/8"),      // private (RFC 1918)
	netip.MustParsePrefix("100.64.0.0/10"),   // carriers' shared space (RFC 6598)
	netip.MustParsePrefix("127.0.0.0/8"),     // loopback
	netip.MustParsePrefix("169.254.0.0/16"),  // link-local, where clouds keep their metadata
	netip.MustParsePrefix("172.16.0.0/12"),   // private (RFC 1918)
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation (RFC 5737)
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays (RFC 7526)
	netip.MustParsePrefix("192.168.0.0/16"),  // private (RFC 1918)
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarking (RFC 2544)
	netip.MustParsePrefix("198.51.100.0/24"), // documentation (RFC 5737)
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation (RFC 5737)
	netip.MustParsePrefix("224.0.0.0/4"),     // multicast
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, and broadcast
}

// global6 is all that is given out of IPv6 for global unicast. Outside of it stand
// loopback, unspecified, IPv4-mapped (::ffff:0:0/96), NAT64 (64:ff9b::/96 and
// 64:ff9b:1::/48), discard (100::/64), unique local (fc00::/7), link-local (fe80::/10)
// and multicast (ff00::/8).
var global6 = netip.MustParsePrefix("2000::/3")

// special6 are the addresses in it that are not somebody's, or that carry an IPv4
// address, which would have to be looked at in turn.
var special6 = []netip.Prefix{
	netip.MustParsePrefix("2001::/23"),     // protocol assignments: Teredo, ORCHID, benchmarking
	netip.MustParsePrefix("2001:db8::/32"), // documentation (RFC 3849)
	netip.MustParsePrefix("2002::/16"),     // 6to4
	netip.MustParsePrefix("3fff::/20"),     // documentation (RFC 9637)
}
