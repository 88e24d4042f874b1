package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/config"
)

// A listener is one address for callers, with the roles that it serves.
type listener struct {
	config.Listener
	cert *certificate // nil for plain HTTP
	srv  *http.Server
}

// addresses are where a service listens, after the ports are known.
type addresses struct{ api, admin string }

// newListeners makes the listeners, the shared one first.
func (s *service) newListeners() ([]*listener, error) {
	var all []*listener
	for _, cfg := range s.plan.cfg.Listeners() {
		l := &listener{Listener: cfg}
		if cfg.TLS != nil {
			var err error
			if l.cert, err = newCertificate(s, cfg.Name, cfg.TLS); err != nil {
				return nil, err
			}
		}
		all = append(all, l)
	}
	return all, nil
}

// handler gives what a listener serves. stopping ends when the service is about to stop.
func (s *service) handler(l *listener, stopping context.Context) http.Handler {
	if slices.Contains(l.Roles, config.ConsoleRole) {
		return s.consoleHandler(l, stopping)
	}
	groups := []httpapi.Group{httpapi.KeysGroup}
	modes := map[httpapi.Group]httpapi.CertificateMode{}
	for _, role := range l.Roles {
		group := httpapi.Group(role)
		groups = append(groups, group)
		if l.TLS != nil {
			modes[group] = httpapi.CertificateMode(l.TLS.ClientCertificates[role])
		}
	}
	return httpapi.New(httpapi.Config{
		Groups:         groups,
		Certificates:   modes,
		Callers:        s.callers,
		Provisioning:   s.provisioning,
		Wallets:        s.provisioning,
		Approvals:      s.provisioning,
		Merchant:       s.merchant,
		Passes:         s.passes,
		Keys:           s.gate,
		Refusals:       s.audit,
		Checkpoints:    s.checkpoints,
		Published:      &httpapi.Published{Logs: s.store, Now: time.Now},
		Docs:           l.Docs,
		Metrics:        s.metrics,
		Log:            s.plan.log,
		Tracer:         s.tracer(),
		Environment:    s.plan.cfg.Environment,
		Now:            time.Now,
		ClaimLease:     s.plan.cfg.PushProvisioning.NonceLease,
		RequestTimeout: l.RequestTimeout,
		Stopping:       stopping,

		DecisionsByCertificate: s.plan.cfg.Environment != config.Development,
	})
}

// listen runs all servers until the context ends or one of them fails.
func (s *service) listen(ctx context.Context, ready func(addresses) error) error {
	checks := s.checks(ctx)
	s.metrics.Checks(checks)
	routes := []func(gin.IRouter){
		httpapi.AuditRoutes(s.store, s.log.Number, s.checkpoints, s.plan.log), httpapi.KeyRoutes(s.inventory), httpapi.ServiceRoute(s.state),
		httpapi.ChangeRoutes(s.changes, s.adminConfig()), httpapi.DescriptionRoutes(), s.consoleRoutes(ctx),
	}
	if s.provisioning != nil {
		routes = append(routes, httpapi.CardRoutes(s.provisioning, s.plan.log),
			httpapi.EnablementRoutes(s.enablementKeeper(), s.plan.cfg.Environment, s.plan.log))
	}
	admin := httpapi.NewAdmin(s.metrics, s.plan.log, checks, routes...)
	servers := []*http.Server{httpapi.Server(httpapi.GuardAdmin(admin, s.adminHosts()), s.plan.cfg.Admin.Listen, s.plan.log)}
	for _, l := range s.listeners {
		l.srv = httpapi.Server(s.handler(l, ctx), l.Listen, s.plan.log)
		if l.cert != nil {
			l.srv.TLSConfig = l.cert.tlsConfig(l.TLS)
		}
		servers = append(servers, l.srv)
	}
	sockets, err := bind(ctx, servers)
	if err != nil {
		return err
	}
	failed := make(chan error, len(servers))
	for i, srv := range servers {
		go func() {
			if srv.TLSConfig != nil {
				failed <- srv.ServeTLS(sockets[i], "", "")
				return
			}
			failed <- srv.Serve(sockets[i])
		}()
	}
	at := addresses{admin: sockets[0].Addr().String(), api: sockets[1].Addr().String()}
	for i, l := range s.listeners {
		s.plan.log.Info("listening", "listener", l.Name, "address", sockets[i+1].Addr().String(), "roles", l.Roles, "tls", l.cert != nil)
	}
	s.plan.log.Info("listening", "api", at.api, "admin", at.admin, "environment", s.plan.cfg.Environment, "version", version)
	for i, l := range s.listeners {
		if slices.Contains(l.Roles, config.RolePasses) {
			err = s.locatePasses(l, sockets[i+1].Addr().String())
		}
	}
	if err == nil {
		err = ready(at)
	}
	if err == nil {
		select {
		case <-ctx.Done():
			s.plan.log.Info("stopping", "delay", s.plan.cfg.ShutdownDelay)
		case err = <-failed:
			err = fmt.Errorf("serve: %w", err)
		}
	}
	s.tellStopping()
	return errors.Join(err, drain(ctx, servers, s.plan.cfg.ShutdownDelay))
}

// bind opens the sockets of all servers, or none.
func bind(ctx context.Context, servers []*http.Server) ([]net.Listener, error) {
	var lc net.ListenConfig
	var sockets []net.Listener
	for _, srv := range servers {
		socket, err := lc.Listen(ctx, "tcp", srv.Addr)
		if err != nil {
			err = fmt.Errorf("listen: %w", err)
			for _, open := range sockets {
				err = errors.Join(err, open.Close())
			}
			return nil, err
		}
		sockets = append(sockets, socket)
	}
	return sockets, nil
}

// drain answers what is under way, and for the time of delay what still comes. The admin
// listener goes last: it says how far the stop is.
func drain(ctx context.Context, servers []*http.Server, delay time.Duration) error {
	within := drainWithin
	switch {
	case errors.Is(context.Cause(ctx), errWedged):
		within, delay = wedgedWithin, 0
	case ctx.Err() == nil: // a listener failed, and no load balancer is being told
		delay = 0
	}
	// Clients that are at work close their connections with their next answer; an idle
	// one that is closed under a request would leave it unanswered.
	<-time.After(max(delay, lastAnswers))
	limit, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var errs []error
	for _, srv := range slices.Backward(servers) {
		errs = append(errs, srv.Shutdown(limit))
	}
	return errors.Join(errs...)
}
