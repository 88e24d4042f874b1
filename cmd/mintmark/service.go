package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/signer"
)

// service is everything that runs, wired.
type service struct {
	plan         *plan
	metrics      *httpapi.Metrics
	hsm          *hsm.HSM
	store        *store.Store
	audit        *audit.Log
	provisioning *provisioning.Service
}

// How long a stop waits: for requests under way, and then for the token.
const (
	drainWithin = 20 * time.Second
	closeWithin = 10 * time.Second
	// lastAnswers is how long connections are kept, to be closed by their next answer.
	lastAnswers = 500 * time.Millisecond
	// wedgedWithin is for answers on their way when a module hangs for good: who waited
	// for it has been let go.
	wedgedWithin = 2 * time.Second
)

// memberConfigs sets the modules' environment and gives each member's configuration.
func memberConfigs(p *plan, observer hsm.Observer) ([]hsm.Config, error) {
	for name, value := range p.cfg.HSM.Environment {
		if err := os.Setenv(name, value); err != nil {
			return nil, exit(exitConfiguration, fmt.Errorf("hsm.environment: %w", err))
		}
	}
	var all []hsm.Config
	for _, m := range p.cfg.HSM.Members {
		all = append(all, hsm.Config{
			Name:           m.Name,
			Module:         m.Module,
			TokenLabel:     m.TokenLabel,
			TokenSerial:    m.TokenSerial,
			PINFile:        m.PINFile,
			Keyring:        p.keyring,
			SignaturesOnly: m.SignaturesOnly,
			RSAConcurrency: m.RSAConcurrency,
			ECConcurrency:  m.ECConcurrency,
			CallTimeout:    p.cfg.HSM.CallTimeout,
			DrainTimeout:   p.cfg.HSM.DrainTimeout,
			KeepAlive:      p.cfg.HSM.KeepAlive,
			DataDir:        p.cfg.DataDir,
			Observer:       observer,
			Log:            p.log,
		})
	}
	return all, nil
}

// open opens the database, starts the HSM and wires the domains. A member that is not
// ready does not stop it. wedged is called when a member's module hangs for good. The
// caller closes.
func open(ctx context.Context, p *plan, wedged func(member string)) (*service, error) {
	s := &service{plan: p, metrics: httpapi.NewMetrics(version)}
	var err error
	if s.store, err = openStore(ctx, p.cfg); err != nil {
		return nil, err
	}
	members, err := memberConfigs(p, s.metrics)
	if err != nil {
		return nil, errors.Join(err, s.store.Close())
	}
	for i := range members {
		members[i].OnWedged = wedged
	}
	if s.hsm, err = hsm.Start(ctx, hsm.Policy(p.cfg.HSM.Policy), members); err != nil {
		return nil, errors.Join(exit(exitHSM, err), s.store.Close())
	}
	s.metrics.Ephemeral(func() (uint64, uint64) {
		st := s.hsm.Stats()
		return st.EphemeralCreated, st.EphemeralDestroyed
	})
	s.audit = audit.New(s.store, time.Now)
	pp := p.cfg.PushProvisioning
	s.provisioning, err = provisioning.New(provisioning.Config{
		Chain:    provisioning.NewChainPolicy(p.anchor, time.Now),
		Nonces:   provisioning.NonceRules{NonceLength: pp.NonceLength, SignatureLength: pp.NonceSignatureLength},
		Recorder: s.audit,
		Gate:     signer.New(s.hsm),
		Cards:    s.store,
		Now:      time.Now,
		Lease:    pp.NonceLease,
		TAV:      provisioning.TAVConfig{Version: signer.TAVVersion(pp.TAV.Version), KeyAlias: pp.TAV.KeyAlias, Validity: pp.TAV.Validity},
	})
	if err != nil {
		return nil, errors.Join(exit(exitConfiguration, err), s.close())
	}
	return s, nil
}

// close waits for the tokens' calls and closes everything.
func (s *service) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return errors.Join(exit(exitHSM, s.hsm.Close(ctx)), exit(exitStorage, s.store.Close()))
}

// checks is what the service needs to be ready.
func (s *service) checks() []httpapi.Check {
	all := []httpapi.Check{
		{Name: "hsm", Required: true, Probe: func(context.Context) error { return s.hsm.Ready() }},
		{Name: "database", Required: true, Probe: s.store.Ping},
	}
	for _, m := range s.hsm.Members() {
		all = append(all, httpapi.Check{Name: "hsm member " + m.Name(), Probe: func(context.Context) error { return m.Ready() }})
	}
	for _, purpose := range hsm.Purposes() {
		all = append(all, httpapi.Check{Name: "key for " + string(purpose), Probe: func(context.Context) error {
			_, err := s.hsm.Active(purpose)
			return err
		}})
	}
	return all
}

// addresses are where a service listens, after the ports are known.
type addresses struct{ api, admin string }

// serve listens until the context ends, then answers what is under way and returns.
// ready is called once both listeners accept.
func (s *service) serve(ctx context.Context, ready func(addresses) error) error {
	cfg := s.plan.cfg
	life := audit.Lifecycle{Event: "start", Version: version, Environment: cfg.Environment, ConfigSHA256: cfg.Digest(), KeyringSHA256: s.plan.keyring.Digest()}
	if err := s.audit.Note(ctx, life); err != nil {
		return exit(exitStorage, err)
	}
	api := httpapi.Server(httpapi.New(httpapi.Config{
		Verifier:       s.plan.verifier,
		Provisioning:   s.provisioning,
		Refusals:       s.audit,
		Metrics:        s.metrics,
		Log:            s.plan.log,
		RequestTimeout: cfg.API.RequestTimeout,
		Stopping:       ctx,
	}), cfg.API.Listen, s.plan.log)
	api.TLSConfig = s.plan.tls
	admin := httpapi.Server(httpapi.NewAdmin(s.metrics, s.checks()), cfg.Admin.Listen, s.plan.log)

	err := s.listen(ctx, api, admin, ready)
	life.Event = "stop"
	// The context that ended may be why we stop; the record of it gets its own time.
	stopCtx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return errors.Join(err, exit(exitStorage, s.audit.Note(stopCtx, life)))
}

// listen runs both servers until the context ends or one of them fails.
func (s *service) listen(ctx context.Context, api, admin *http.Server, ready func(addresses) error) error {
	var lc net.ListenConfig
	apiListener, err := lc.Listen(ctx, "tcp", api.Addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	adminListener, err := lc.Listen(ctx, "tcp", admin.Addr)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), apiListener.Close())
	}
	failed := make(chan error, 2)
	go func() {
		if api.TLSConfig != nil {
			failed <- api.ServeTLS(apiListener, "", "")
			return
		}
		failed <- api.Serve(apiListener)
	}()
	go func() { failed <- admin.Serve(adminListener) }()

	at := addresses{api: apiListener.Addr().String(), admin: adminListener.Addr().String()}
	s.plan.log.Info("listening", "api", at.api, "admin", at.admin, "environment", s.plan.cfg.Environment, "version", version)
	err = ready(at)
	if err == nil {
		select {
		case <-ctx.Done():
			s.plan.log.Info("stopping")
		case err = <-failed:
			err = fmt.Errorf("serve: %w", err)
		}
	}
	// Clients that are at work close their connections with their next answer; an idle
	// one that is closed under a request would leave it unanswered.
	<-time.After(lastAnswers)
	within := drainWithin
	if errors.Is(context.Cause(ctx), errWedged) {
		within = wedgedWithin
	}
	drain, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return errors.Join(err, api.Shutdown(drain), admin.Shutdown(drain))
}

// warnings says once what is odd and not wrong.
func (p *plan) warnings() {
	for _, name := range p.cfg.Ignored() {
		p.log.Warn("environment variable names no field and is ignored", "name", name)
	}
	if p.cfg.Environment != config.Production {
		p.log.Warn("not for production", "environment", p.cfg.Environment, "trusts", p.anchor.String())
	}
}
