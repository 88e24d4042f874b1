package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/approval"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/keys"
	"github.com/mintmark/mintmark/internal/merchant"
	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/connector"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/internal/telemetry"
	"github.com/mintmark/mintmark/signer"
)

// service is everything that runs, wired.
type service struct {
	plan         *plan                       // as it was at the start; what is reloaded is in its own place
	keyring      atomic.Pointer[hsm.Keyring] // the one in use, whole
	metrics      *httpapi.Metrics
	hsm          *hsm.HSM
	store        *store.Store
	audit        *audit.Log
	log          audit.LogInfo // the one that this process writes
	checkpoints  *audit.Checkpointer
	gate         *signer.Gate
	callers      *callers
	traces       *telemetry.Traces     // if there is a receiver
	provisioning *provisioning.Service // with the role issuer
	connector    *connector.Connector  // with it, if one is configured
	merchant     *merchant.Service     // with the role merchant
	passes       *passes.Service       // with the role passes
	pusher       *passes.Pusher        // with it, unless pushing is disabled
	listeners    []*listener
	changes      *approval.Service
	activity     *httpapi.Activity // of the console; nil without one
	started      time.Time

	reloading   sync.Mutex                  // held while another configuration is taken up
	handingOver bool                        // whether keys that left are still usable by name; guarded by reloading
	inUse       atomic.Pointer[[]takenFile] // that the configuration in use was made from

	hup chan os.Signal // SIGHUP, caught from the beginning: it would end the process
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
func memberConfigs(p *plan, ring *hsm.Keyring, observer hsm.Observer) ([]hsm.Config, error) {
	if err := asItsUser(p.cfg.DataDir); err != nil {
		return nil, err
	}
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
			Keyring:        ring,
			SignaturesOnly: m.SignaturesOnly,
			RSAConcurrency: m.RSAConcurrency,
			ECConcurrency:  m.ECConcurrency,
			CallTimeout:    p.cfg.HSM.CallTimeout,
			DrainTimeout:   p.cfg.HSM.DrainTimeout,
			KeepAlive:      p.cfg.HSM.KeepAlive,
			DataDir:        p.cfg.DataDir,
			Isolation:      hsm.Isolation(p.cfg.HSM.Isolation),
			Observer:       observer,
			Log:            p.log,
		})
	}
	return all, nil
}

// open opens the database, starts the HSM and wires the domains. A member that is not
// ready does not stop it. wedged is called when a member's module hangs for good in this
// process. The caller closes.
func open(ctx context.Context, p *plan, wedged func(member string)) (*service, error) {
	s := &service{plan: p, started: time.Now(), metrics: httpapi.NewMetrics(version), hup: make(chan os.Signal, 1)}
	s.keyring.Store(p.keyring)
	signal.Notify(s.hup, syscall.SIGHUP)
	var err error
	if p.cfg.Console.Enabled {
		s.activity = s.metrics.Activity()
	}
	if s.store, err = openStore(ctx, p.cfg); err != nil {
		return nil, err
	}
	members, err := memberConfigs(p, p.keyring.Only(p.bound()...), s.metrics)
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
	s.metrics.Keys(
		func() []keys.Expiry { return keys.Expiries(s.keyring.Load(), time.Now()) },
		func() []keys.Use { return keys.Uses(s.keyring.Load(), s.hsm.Uses) },
	)
	s.audit = audit.New(s.store, time.Now)
	s.gate = signer.New(s.hsm)
	s.callers = newCallers(p, s.gate)
	if err := s.openTraces(); err != nil {
		return nil, errors.Join(exit(exitConfiguration, err), s.close())
	}
	if err := s.openCheckpoints(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.openRoles(); err != nil {
		return nil, errors.Join(exit(exitConfiguration, err), s.close())
	}
	if err := s.openChanges(); err != nil {
		return nil, errors.Join(exit(exitConfiguration, err), s.close())
	}
	return s, nil
}

// openRoles makes the domains of the roles, and the listeners.
func (s *service) openRoles() (err error) {
	cfg := s.plan.cfg
	if cfg.HasRole(config.RoleIssuer) {
		if err := s.openConnector(); err != nil {
			return err
		}
		s.provisioning, err = s.newProvisioning()
		if err != nil {
			return err
		}
	}
	if cfg.HasRole(config.RoleMerchant) {
		s.merchant, err = merchant.New(merchant.Config{Recorder: s.audit, Gate: s.gate, Now: time.Now}, s.plan.merchant)
		if err != nil {
			return err
		}
	}
	if cfg.HasRole(config.RolePasses) {
		if err := s.openPasses(); err != nil {
			return err
		}
	}
	s.listeners, err = s.newListeners()
	return err
}

// close waits for the tokens' calls and closes everything.
func (s *service) close() error {
	s.callers.close()
	s.closeTraces()
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	signal.Stop(s.hup) // last: until the end it shall not end the process
	return errors.Join(exit(exitHSM, s.hsm.Close(ctx)), exit(exitStorage, s.store.Close()))
}

// checks is what the service needs to be ready, of which one is that ctx has not ended.
func (s *service) checks(ctx context.Context) []httpapi.Check {
	all := []httpapi.Check{
		{Name: "hsm", Required: true, Probe: func(context.Context) error { return s.hsm.Ready() }},
		{Name: "database", Required: true, Probe: s.store.Ping},
		{Name: "audit log", Required: true, Probe: func(context.Context) error { return s.checkpoints.Well() }},
	}
	for _, m := range s.hsm.Members() {
		all = append(all, httpapi.Check{Name: "hsm member " + m.Name(), Probe: func(context.Context) error { return m.Ready() }})
	}
	all = append(all, httpapi.Check{Name: "key sets of clients", Probe: s.callers.keySets})
	for _, purpose := range s.plan.bound() {
		all = append(all, httpapi.Check{Name: "key for " + string(purpose), Probe: func(context.Context) error {
			_, err := s.hsm.Active(purpose)
			return err
		}})
	}
	return append(all, stopping(ctx))
}

// stopping is not well once the service was told to stop: a load balancer then sends no
// more, while what it has sent is answered.
func stopping(ctx context.Context) httpapi.Check {
	return httpapi.Check{Name: "service", Required: true, Probe: func(context.Context) error {
		if ctx.Err() != nil {
			return errors.New("it is stopping")
		}
		return nil
	}}
}

// serve listens until the context ends, then answers what is under way and returns.
// ready is called once all listeners accept.
func (s *service) serve(ctx context.Context, ready func(addresses) error) error {
	life := s.plan.lifecycle("start")
	signing, stopSigning := context.WithCancel(context.WithoutCancel(ctx))
	var signer sync.WaitGroup
	signer.Go(func() { s.checkpoints.Run(signing) })
	defer signer.Wait()
	defer stopSigning() // after all that is put on record: the last checkpoint covers it
	if err := s.audit.Note(ctx, life); err != nil {
		return exit(exitStorage, err)
	}
	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { s.summarise(background) })
	running.Go(func() { s.expire(background) })
	running.Go(func() { (&keys.Watcher{Ring: s.keyring.Load, Log: s.plan.log}).Run(background) })
	if s.activity != nil {
		running.Go(func() { s.activity.Run(background) })
	}
	s.watch(background, &running)
	if s.connector != nil {
		running.Go(func() { s.connector.Deliver(background) })
	}
	if s.pusher != nil {
		running.Go(func() { s.pusher.Run(background) })
	}
	err := s.listen(ctx, ready)
	stop()
	running.Wait()
	life.Event, life.KeyringSHA256 = "stop", s.keyring.Load().Digest()
	// The context that ended may be why we stop; the record of it gets its own time.
	stopCtx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	return errors.Join(err, exit(exitStorage, errors.Join(s.audit.SummariseAll(stopCtx), s.audit.Note(stopCtx, life))))
}

// lifecycle is the record of an event with what was loaded.
func (p *plan) lifecycle(event string) audit.Lifecycle {
	return audit.Lifecycle{Event: event, Version: version, Environment: p.cfg.Environment, ConfigSHA256: p.cfg.Digest(), KeyringSHA256: p.keyring.Digest()}
}

// summariseEvery is how often the counts of refusals are looked at.
const summariseEvery = 10 * time.Second

// summarise records the counts of refusals until the context ends.
func (s *service) summarise(ctx context.Context) {
	tick := time.NewTicker(summariseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.audit.Summarise(ctx); err != nil && ctx.Err() == nil {
			s.plan.log.Error("refusals not recorded yet", "error", err)
		}
	}
}

// warnings says once what is odd and not wrong.
func (p *plan) warnings() {
	for _, name := range p.cfg.Ignored() {
		p.log.Warn("environment variable names no field and is ignored", "name", name)
	}
	p.warnOfPasses()
	if p.cfg.Environment != config.Production {
		p.log.Warn("not for production", "environment", p.cfg.Environment, "trusts", p.trusts())
	}
}

// trusts names the root that card payloads are sealed under.
func (p *plan) trusts() string {
	if !p.cfg.HasRole(config.RoleIssuer) {
		return "none: no role that seals cards"
	}
	return p.anchor.String()
}
