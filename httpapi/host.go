package httpapi

import (
	"net"
	"net/http"
	"slices"
	"strings"
)

// anyHost are the addresses of the admin listener that are answered whatever host a request
// names: probes and scrapers come through whatever stands between, and what they get names no
// client, entry or key's value.
var anyHost = []string{"/livez", "/readyz", "/healthz", "/metrics"}

// GuardAdmin refuses requests that name a host that is neither a loopback one nor of hosts,
// which are in lower case and without ports: those of a page whose name was made to resolve to
// this machine (DNS rebinding), and which could then read what this listener answers, as well
// as change something. The addresses of anyHost are open to all; the console, which browsers may
// call by names of its own, looks at them itself.
func GuardAdmin(next http.Handler, hosts []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		open := slices.Contains(anyHost, r.URL.Path) || strings.HasPrefix(r.URL.Path+"/", consolePath)
		if !(reads && open) && !knownHost(r, hosts) {
			http.Error(w, "name this machine by a loopback address, or by one of admin.hosts", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knownHost reports whether a request names a loopback host or one of hosts.
func knownHost(r *http.Request, hosts []string) bool {
	host := hostOf(r.Host)
	return isLoopback(host) || host != "" && slices.Contains(hosts, host)
}

// isLoopback reports whether a host without its port is this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// hostOf gives the host of an address, with or without a port, in lower case.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	}
	return strings.ToLower(host)
}
