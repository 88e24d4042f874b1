package cluster

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/mintmark/mintmark/integration/actors"
)

// haproxy finds HAProxy where tools/ensure.sh does.
func haproxy() (string, error) {
	if path, err := exec.LookPath("haproxy"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/sbin/haproxy", "/usr/local/sbin/haproxy"} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", errors.New("HAProxy is not installed: tools/ensure.sh haproxy")
}

// balance starts the load balancer, with the configurations of deploy at the rig's
// addresses, and waits until it has both replicas.
func (r *rig) balance() {
	r.t.Helper()
	program, err := haproxy()
	r.check(err)
	at := actors.FreeAddress(r.t)
	first, second := r.readiness(r.a), r.readiness(r.b)
	own := strings.NewReplacer("10.0.0.10:8080", at, "10.0.0.11:8080 port 9091", host(r.a.api)+" port "+first, "10.0.0.12:8080 port 9092", host(r.b.api)+" port "+second)
	args := []string{"-db", "-f", r.write("haproxy.cfg", own.Replace(r.deployed("haproxy.cfg")))}
	for _, p := range r.replicas() {
		args = append(args, "-f", filepath.Join(r.dir, "readiness-"+p.name+".cfg"))
	}
	cmd := exec.Command(program, args...)
	r.balancer = "http://" + at
	balancer := actors.Start(r.t, cmd)
	r.t.Cleanup(balancer.Kill) // it ends by the signal when it is asked to, too
	balancer.Await(r.t, soon, func() bool {
		a, err := actors.Call{Method: http.MethodGet, URL: r.balancer + "/.well-known/jwks.json"}.By(client)
		return err == nil && a.Status == http.StatusOK
	})
}

// readiness writes what makes a replica's /readyz reachable, and gives the port. Both run in
// one process here, and so have names of their own.
func (r *rig) readiness(p *replica) (port string) {
	r.t.Helper()
	at := actors.FreeAddress(r.t)
	_, port, _ = strings.Cut(at, ":")
	own := strings.NewReplacer("10.0.0.11:9091", at, "127.0.0.1:9090", host(p.admin),
		"readiness", "readiness-"+p.name, "backend admin", "backend admin-"+p.name, "default_backend admin", "default_backend admin-"+p.name)
	r.write("readiness-"+p.name+".cfg", own.Replace(r.deployed("haproxy-readiness.cfg")))
	return port
}

// host is a URL without its scheme.
func host(url string) string { return strings.TrimPrefix(url, "http://") }

// deployed is a file of deploy.
func (r *rig) deployed(name string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", name))
	r.check(err)
	return string(text)
}
