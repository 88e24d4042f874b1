package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/keys"
)

// consoleTimeout is what a page of the console gets.
const consoleTimeout = 15 * time.Second

// consoleRoutes are the console on the admin listener; nothing where it is not enabled. In
// development the admin listener's other answers are open to everybody on this machine, and
// so are its pages. stopping ends when the service is about to stop.
func (s *service) consoleRoutes(stopping context.Context) func(gin.IRouter) {
	if !s.plan.cfg.Console.Enabled {
		return func(gin.IRouter) {}
	}
	cfg := s.consoleConfig(consoleTimeout, stopping)
	cfg.Open = s.plan.cfg.Environment == config.Development
	return httpapi.ConsoleRoutes(cfg)
}

// consoleHandler is the console on a listener of its own, where everybody proves who they are.
func (s *service) consoleHandler(l *listener, stopping context.Context) http.Handler {
	cfg := s.consoleConfig(l.RequestTimeout, stopping)
	cfg.Certificates = map[httpapi.Group]httpapi.CertificateMode{
		httpapi.ConsoleGroup: httpapi.CertificateMode(l.TLS.ClientCertificates[config.ConsoleRole]),
	}
	return httpapi.NewConsole(cfg)
}

// consoleConfig is what the console shows.
func (s *service) consoleConfig(timeout time.Duration, stopping context.Context) httpapi.ConsoleConfig {
	cfg := httpapi.ConsoleConfig{
		Config: httpapi.Config{
			Callers: s.callers, Refusals: s.audit, Metrics: s.metrics, Log: s.plan.log, Now: time.Now,
			Checkpoints: s.checkpoints, Environment: s.plan.cfg.Environment, RequestTimeout: timeout,
			Stopping: stopping,
		},
		Hosts:  s.consoleHosts(),
		Checks: s.checks(stopping), Service: s.consoleService, Members: s.consoleMembers,
		Expiries:  func() []keys.Expiry { return keys.Expiries(s.keyring.Load(), time.Now()) },
		Inventory: s.inventory, Activity: s.activity, Logs: s.store, OwnLog: s.log.Number, AuditFigure: s.checkpoints.Stats, Changes: s.changes,
	}
	if s.provisioning != nil { // a nil one is no interface's nil
		cfg.Cards = s.provisioning
	}
	if s.passes != nil {
		cfg.PassRows = s.passes
	}
	return cfg
}

// adminHosts are the names by which the admin listener is called.
func (s *service) adminHosts() []string {
	return hostsOf(s.plan.cfg.Admin.Hosts, s.plan.cfg.Admin.Listen)
}

// consoleHosts are the names by which browsers call the console.
func (s *service) consoleHosts() []string {
	all := append(s.adminHosts(), hostsOf(s.plan.cfg.Console.Hosts)...)
	if l := s.plan.cfg.Console.Listener; l != nil {
		all = append(all, hostsOf(nil, l.Listen)...)
	}
	return all
}

// hostsOf are names and the hosts of addresses, in lower case.
func hostsOf(names []string, listening ...string) []string {
	var all []string
	for _, name := range names {
		all = append(all, strings.ToLower(name))
	}
	for _, address := range listening {
		if host, _, err := net.SplitHostPort(address); err == nil && host != "" {
			all = append(all, strings.ToLower(host))
		}
	}
	return all
}

func (s *service) consoleMembers() []httpapi.ConsoleMember {
	var all []httpapi.ConsoleMember
	for _, m := range s.hsm.Members() {
		st := m.Status()
		all = append(all, httpapi.ConsoleMember{Name: m.Name(), State: string(st.State), Since: st.Since, Cause: st.Cause, LastSignature: st.LastSignature})
	}
	return all
}

// consoleService is what the report is told, for people.
func (s *service) consoleService() httpapi.ConsoleService {
	now := s.said()
	core, dump := "on (RLIMIT_CORE "+now.Host.CoreLimit+")", "cannot read its memory"
	if now.Host.CoreOff {
		core = "off"
	}
	if now.Host.Dumpable {
		dump = "can read its memory"
	}
	return httpapi.ConsoleService{
		Version: now.Build.Version, Started: now.Started,
		Facts: []httpapi.ConsoleFact{
			{Name: "Revision", Value: orNone(now.Build.Revision)}, {Name: "Go", Value: now.Build.Go},
			{Name: "Modules", Value: fmt.Sprintf("%d, SHA-256 of their list %s", now.Build.Modules, orNone(now.Build.ModulesSHA256))},
			{Name: "Executable, SHA-256", Value: orNone(now.Build.ExecutableSHA256)},
			{Name: "Configuration, SHA-256", Value: now.Config}, {Name: "Keyring, SHA-256", Value: now.Keyring},
			{Name: "Ephemeral objects", Value: fmt.Sprintf("%d made, %d destroyed", now.Ephemeral.Created, now.Ephemeral.Destroyed)},
			{Name: "System", Value: now.Host.System}, {Name: "Core files", Value: core}, {Name: "Other processes of its user", Value: dump},
			{Name: "Memory", Value: now.Host.Memory}, {Name: "Erasure of single-use keys", Value: now.Host.Erasure}, {Name: "Clock", Value: now.Host.Clock},
		},
	}
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
