package outbound_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mintmark/mintmark/internal/outbound"
)

// However a name for this host is written, no connection is made.
func TestAddressesAreCheckedWhenDialled(t *testing.T) {
	s, _ := serve(t, func(http.ResponseWriter, *http.Request) {})
	connected := make(chan struct{}, 1)
	s.Config.ConnState = func(net.Conn, http.ConnState) {
		select {
		case connected <- struct{}{}:
		default:
		}
	}
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, host := range []string{
		"127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::1]", "0.0.0.0", "[::]",
	} {
		t.Run(host, func(t *testing.T) {
			c := outbound.New(outbound.Config{Timeout: patience})
			t.Cleanup(c.Close)
			resolver, _ := answering(t, "127.0.0.1") // the machine's own may take its time
			c.Resolve(resolver)
			_, err := c.Get(t.Context(), "https://"+net.JoinHostPort(strings.Trim(host, "[]"), port), "")
			var e *outbound.Error
			if !errors.As(err, &e) || e.Problem != outbound.ProblemAddress && e.Problem != outbound.ProblemName {
				t.Fatalf("error is %v", err)
			}
		})
	}
	select {
	case <-connected:
		t.Error("a connection was made")
	default:
	}
}

// A name may point elsewhere at the second look. Each connection is checked, whatever
// the one before was.
func TestARebindingNameGainsNothing(t *testing.T) {
	s, reached := serve(t, func(http.ResponseWriter, *http.Request) {}, func(s *httptest.Server) {
		_ = s.Listener.Close()
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		s.Listener = l
	})
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	c := trusting(t, s)
	resolver, rebind := answering(t, "127.0.0.1")
	c.Resolve(resolver)
	address := "https://" + net.JoinHostPort("example.com", port) // httptest's certificate has this name

	if _, err := c.Get(t.Context(), address, ""); err != nil {
		t.Fatal(err)
	}
	c.Close()
	rebind("127.0.0.2")
	_, err := c.Get(t.Context(), address, "")
	if fails(t, err, outbound.ProblemAddress); reached.Load() != 1 {
		t.Fatalf("reached %d times", reached.Load())
	}
}

// answering is a resolver for which every name has one IPv4 address, until it is bound to
// another. A question that is asked again, as one whose answer is late, has the same answer.
func answering(t *testing.T, address string) (resolver *net.Resolver, rebind func(address string)) {
	t.Helper()
	var bound atomic.Pointer[netip.Addr]
	rebind = func(address string) { to := netip.MustParseAddr(address); bound.Store(&to) }
	rebind(address)
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = server.Close(); wg.Wait() })
	wg.Go(func() {
		query := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(query)
			if err != nil {
				return
			}
			end := 12 + bytes.IndexByte(query[12:n], 0) + 5 // behind the question's name, type and class
			answer := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
			if binary.BigEndian.Uint16(query[end-4:]) == 1 { // A
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				answer = append(answer, bound.Load().AsSlice()...)
			}
			_, _ = server.WriteTo(answer, from)
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}, rebind
}

func TestAddressesThatMayBeCalled(t *testing.T) {
	for address, want := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "100.63.255.255": true, "100.128.0.0": true, "172.15.255.255": true, "172.32.0.0": true,
		"192.167.255.255": true, "198.17.255.255": true, "198.20.0.0": true, "223.255.255.255": true, "11.0.0.0": true,
		"2606:4700::1111": true, "2a00:1450:4001::1": true, "2001:200::1": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.1": false, "10.255.255.255": false, "100.64.0.1": false, "100.127.255.255": false,
		"127.0.0.1": false, "127.255.255.255": false, "169.254.169.254": false, "172.16.0.1": false, "172.31.255.255": false,
		"192.0.0.8": false, "192.0.2.1": false, "192.88.99.1": false, "192.168.0.1": false, "198.18.0.1": false, "198.19.255.255": false,
		"198.51.100.1": false, "203.0.113.1": false, "224.0.0.1": false, "239.255.255.255": false, "240.0.0.1": false, "255.255.255.255": false,

		"::": false, "::1": false, "::8.8.8.8": false, "::ffff:8.8.8.8": false, "::ffff:10.0.0.1": false, "::ffff:0:8.8.8.8": false,
		"64:ff9b::8.8.8.8": false, "64:ff9b:1::1": false, "100::1": false, "2001::1": false, "2001:2::1": false, "2001:10::1": false,
		"2001:20::1": false, "2001:db8::1": false, "2002:a00:1::1": false, "2002:808:808::1": false, "3fff::1": false, "5f00::1": false,
		"fc00::1": false, "fd12:3456::1": false, "fe80::1": false, "fe80::1%eth0": false, "fec0::1": false, "ff02::1": false, "2606:4700::1111%eth0": false,
	} {
		network := "tcp4"
		if strings.Contains(address, ":") {
			network = "tcp6"
		}
		if got := outbound.Allows(nil, network, net.JoinHostPort(address, "443")); got != want {
			t.Errorf("%s: allowed is %v", address, got)
		}
	}
	listed := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("fe80::/10")}
	for address, want := range map[string]bool{
		"10.1.2.3": true, "10.2.0.1": false, "fd12::1": true, "fc00::1": false, "fe80::1%eth0": true, "::ffff:10.1.2.3": false, "127.0.0.1": false, "1.1.1.1": true,
	} {
		network := "tcp4"
		if strings.Contains(address, ":") {
			network = "tcp6"
		}
		if got := outbound.Allows(listed, network, net.JoinHostPort(address, "443")); got != want {
			t.Errorf("with a list, %s: allowed is %v", address, got)
		}
	}
	for _, tc := range [][2]string{{"unix", "/run/socket"}, {"udp4", "1.1.1.1:443"}, {"tcp", "1.1.1.1:443"}, {"tcp4", "1.1.1.1"}, {"tcp4", "one.one:443"}} {
		if outbound.Allows(nil, tc[0], tc[1]) {
			t.Errorf("%v is allowed", tc)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for address, says := range map[string]string{
		"https://issuer.example":                   "",
		"https://issuer.example:8443/jwks.json":    "",
		"https://issuer.example/jwks?tenant=7":     "",
		"https://[2606:4700::1111]/":               "",
		"HTTPS://issuer.example":                   "",
		"":                                         "https://",
		"issuer.example":                           "https://",
		"http://issuer.example/s3cr3t":             "https://",
		"file:///etc/passwd":                       "https://",
		"https:issuer.example":                     "no host",
		"https:///s3cr3t":                          "no host",
		"https://:443/":                            "no host",
		"https://user:s3cr3t@issuer.example":       "user name",
		"https://@issuer.example":                  "user name",
		"https://issuer.example/#s3cr3t":           "fragment",
		"https://issuer.example/#":                 "fragment",
		"https://issuer.example:":                  "port",
		"https://issuer.example:0":                 "port",
		"https://issuer.example:65536":             "port",
		"https://issuer.example:s3cr3t/":           "not a URL",
		"https://issuer.example/%zz?s3cr3t":        "not a URL",
		"https://issuer.example/s3cr3t\x00":        "not a URL",
		"https://issuer.example\r\nX: s3cr3t":      "not a URL",
		"https://issuer example/":                  "not a URL",
		"https://[fe80::1%25eth0]:s3cr3t/":         "not a URL",
		"https://issuer.example\\@other.example/#": "not a URL",
	} {
		err := outbound.CheckURL(address)
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", address, err, says)
		}
		if err == nil {
			continue
		}
		if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: the error repeats it: %v", address, err)
		}
		c := outbound.New(outbound.Config{})
		_, err = c.Get(t.Context(), address, "")
		if fails(t, err, outbound.ProblemURL); strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: the error repeats it: %v", address, err)
		}
	}
}
