package config

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// Audit is the audit log's checkpoints, anchors and limits (docs/audit.md).
type Audit struct {
	// Log names the log, best by a URL without its scheme: bank.example/mintmark. With
	// the environment behind a slash it is the origin of every checkpoint, and a database
	// keeps it for good. Default mintmark; required in production.
	Log string `yaml:"log"`
	// Replica is the name of the log that this process writes, for one of several that share
	// store.postgres: of a-z, 0-9 and hyphens, at most 32, with a letter. While another process
	// writes the log of that name this one does not start. Default empty: the first log without
	// a name that nobody writes, or a new one. A restart applies it.
	Replica string `yaml:"replica"`
	// Every is how often a checkpoint is made when there are new entries. Default 1s.
	Every time.Duration `yaml:"every"`
	// MaxUnsigned is how many entries may be without a checkpoint before nothing new is
	// begun. Default 10000.
	MaxUnsigned int `yaml:"maxUnsigned"`
	// MaxUnsignedAge is how old the oldest of them may be. Default 60s.
	MaxUnsignedAge time.Duration `yaml:"maxUnsignedAge"`
	// MinFree is how much of the disk of store.sqlite must be free, in MiB, for
	// anything to be begun. Default 64.
	MinFree int `yaml:"minFree"`
	// Retention is how long entries keep their bodies; the tree keeps their hashes for
	// ever. Default 0, for ever; in production at least 8760h (PCI DSS 10.5.1: 12 months).
	Retention time.Duration `yaml:"retention"`
	// Anchors are told of every checkpoint. Production needs one off this host: a webhook,
	// or syslog over tcp or tls.
	Anchors []Anchor `yaml:"anchors"`
}

// Anchor is one place where checkpoints are kept: exactly one of the three.
type Anchor struct {
	// File is a file to which checkpoints are appended.
	File string `yaml:"file"`
	// Syslog is a server: unix:///dev/log, tcp://host:port or tls://host:port.
	Syslog string `yaml:"syslog"`
	// CAFile holds the roots, in PEM, that the server's certificate must chain to; tls
	// only. Default: the system's.
	CAFile string `yaml:"caFile"`
	// Webhook is an https URL that takes checkpoints by POST.
	Webhook string `yaml:"webhook"`
}

func (a *Audit) defaults(environment string) {
	if environment != Production {
		setDefault(&a.Log, "mintmark")
	}
	setDefault(&a.Every, time.Second)
	setDefault(&a.MaxUnsigned, 10_000)
	setDefault(&a.MaxUnsignedAge, time.Minute)
	setDefault(&a.MinFree, 64)
}

// Origin is the first line of every checkpoint of log 0: the log's name and the environment.
// Those of the other logs of a database have their own name behind a slash.
func (c *Config) Origin() string { return c.Audit.Log + "/" + c.Environment }

// replicaName has a letter: a log without a name is called by its number.
var replicaName = regexp.MustCompile(`^[a-z0-9-]*[a-z][a-z0-9-]*$`)

// minRetention is 12 months (PCI DSS 10.5.1).
const minRetention = 365 * 24 * time.Hour

func (c *Config) checkAudit(w *wrongs) {
	a := c.Audit
	w.need("audit.log", a.Log)
	if strings.ContainsFunc(a.Log, func(r rune) bool { return r <= ' ' || r == '+' || r > '~' }) {
		w.say("audit.log", "must be of printable ASCII without blanks and plus signs")
	}
	if a.Replica != "" && (len(a.Replica) > 32 || !replicaName.MatchString(a.Replica)) {
		w.say("audit.replica", "must be of a-z, 0-9 and hyphens, at most 32, with a letter")
	}
	if a.Replica != "" && c.Store.SQLite != "" {
		w.say("audit.replica", "is for store.postgres: a SQLite database has one log")
	}
	if a.Every < 100*time.Millisecond {
		w.say("audit.every", "must be at least 100ms")
	}
	if a.MaxUnsigned < 1 {
		w.say("audit.maxUnsigned", "must be at least 1")
	}
	if a.MaxUnsignedAge < 2*a.Every {
		w.say("audit.maxUnsignedAge", "must be at least twice audit.every")
	}
	if a.MinFree < 1 {
		w.say("audit.minFree", "must be at least 1")
	}
	if a.Retention < 0 || (c.Environment == Production && a.Retention != 0 && a.Retention < minRetention) {
		w.say("audit.retention", "must be 0, or at least 8760h in production")
	}
	offHost := false
	for i, k := range a.Anchors {
		offHost = k.check(w, fmt.Sprintf("audit.anchors[%d]", i)) || offHost
	}
	if c.Environment == Production && !offHost {
		w.say("audit.anchors", "must hold a webhook, or syslog over tcp or tls to another host: a checkpoint kept here alone goes back with the database")
	}
}

// check reports whether the anchor is off this host.
func (k Anchor) check(w *wrongs, at string) bool {
	named := 0
	for _, s := range []string{k.File, k.Syslog, k.Webhook} {
		if s != "" {
			named++
		}
	}
	if named != 1 {
		w.say(at, "must name one of file, syslog and webhook")
		return false
	}
	if k.CAFile != "" && !strings.HasPrefix(k.Syslog, "tls://") {
		w.say(at+".caFile", "is for syslog over tls alone")
	}
	switch {
	case k.Syslog != "":
		u, err := url.Parse(k.Syslog)
		if err != nil || !syslogURL(u) {
			w.say(at+".syslog", "must be unix:///path, tcp://host:port or tls://host:port")
			return false
		}
		return u.Scheme != "unix" && !loopbackHost(u.Hostname())
	case k.Webhook != "":
		u, err := url.Parse(k.Webhook)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			w.say(at+".webhook", "must be an https URL")
			return false
		}
		return !loopbackHost(u.Hostname())
	}
	return false
}

func syslogURL(u *url.URL) bool {
	if u.Scheme == "unix" {
		return u.Host == "" && strings.HasPrefix(u.Path, "/")
	}
	return (u.Scheme == "tcp" || u.Scheme == "tls") && u.Hostname() != "" && u.Port() != "" && u.Path == ""
}

func loopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
