package main

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/outbound"
	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/connector"
	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/signer"
)

// approvalPlan is what the push provisioning section says of the network and of decisions,
// with what it names loaded.
type approvalPlan struct {
	networkKeys map[string]crypto.PublicKey
	statements  provisioning.StatementKeys
}

// loadApprovalPlan reads the keys. The error names all that is wrong.
func loadApprovalPlan(cfg *config.Config) (approvalPlan, error) {
	p := approvalPlan{networkKeys: map[string]crypto.PublicKey{}, statements: provisioning.StatementKeys{}}
	var wrong []error
	load := func(at, file string) crypto.PublicKey {
		key, err := loadPublicKey(file)
		if err == nil && !signer.CheckJWSKey(key) {
			err = errors.New("must be P-256, or RSA of 2048 bits or more")
		}
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s.publicKeyFile: %w", at, err))
		}
		return key
	}
	pp := cfg.PushProvisioning
	if pp.Connector.Mode == config.ConnectorHTTP {
		if err := outbound.CheckURL(pp.Connector.URL); err != nil {
			wrong = append(wrong, fmt.Errorf("pushProvisioning.connector.url %w", err))
		}
	}
	for i, k := range pp.Connector.Keys {
		p.networkKeys[k.ID] = load(fmt.Sprintf("pushProvisioning.connector.keys[%d]", i), k.PublicKeyFile)
	}
	for i, k := range pp.Statements {
		if p.statements[k.Tenant] == nil {
			p.statements[k.Tenant] = map[string]crypto.PublicKey{}
		}
		p.statements[k.Tenant][k.ID] = load(fmt.Sprintf("pushProvisioning.statements[%d]", i), k.PublicKeyFile)
	}
	return p, errors.Join(wrong...)
}

// approvalPurposes are those that decisions, passcodes and the connector need keys for,
// beside those of cards.
func approvalPurposes(cfg *config.Config) []hsm.Purpose {
	if cfg.PushProvisioning.Connector.Mode == "" {
		return nil
	}
	return []hsm.Purpose{hsm.Passcode, hsm.ConnectorJWS}
}

// decisionRules are the configured thresholds.
func decisionRules(d config.Decisions) provisioning.DecisionRules {
	return provisioning.DecisionRules{
		Thresholds: path.Thresholds{
			PasscodeFresh: d.PasscodeFresh, CallFresh: d.CallFresh, ChannelTenure: d.ChannelTenure, CredentialWindow: d.CredentialWindow,
			AppTenure: d.AppTenure, DeviceTenure: d.DeviceTenure,
			YellowScore: d.YellowScore, OrangeScore: d.OrangeScore, RedScore: d.RedScore,
		},
		Life: d.Life, Session: d.Session, Within: d.Within,
	}
}

// openConnector makes the way to the network, if one is configured.
func (s *service) openConnector() (err error) {
	pp := s.plan.cfg.PushProvisioning.Connector
	cfg := connector.Config{
		URL: pp.URL, Issuer: pp.Issuer, Audience: pp.Audience, Keys: s.plan.approvals.networkKeys,
		Recorder: s.audit, Gate: s.gate, Outbox: s.store, Observer: s.metrics, Log: s.plan.log, Now: time.Now, Retry: connector.DefaultRetry,
	}
	// A batch is delivered in a few rounds, and its lease must outlast them.
	cfg.Retry.Lease = max(cfg.Retry.Lease, 6*s.plan.cfg.Outbound.Timeout)
	switch pp.Mode {
	case config.ConnectorHTTP:
		out, err := newOutbound(s.plan.cfg.Outbound)
		if err != nil {
			return err
		}
		cfg.Post = connectorPoster{out}
	case config.ConnectorSimulator:
		simulator, err := connector.NewSimulator(s.connectorKeys, notices(pp.NoticesFile))
		if err != nil {
			return err
		}
		cfg.URL, cfg.Issuer, cfg.Audience, cfg.Keys, cfg.Post = "simulator:", "mintmark", "simulator", simulator.Keys(), simulator
	default:
		return nil
	}
	s.connector, err = connector.New(cfg)
	return err
}

// connectorKeys are the public halves of the token's connector keys, by kid.
func (s *service) connectorKeys() map[string]crypto.PublicKey {
	keys := map[string]crypto.PublicKey{}
	for _, k := range s.hsm.Listed(hsm.ConnectorJWS) {
		pub, err := s.hsm.Public(k.Name)
		if err != nil {
			continue // a key that is not usable signs nothing
		}
		if kid, err := signer.KeyID(pub); err == nil {
			keys[kid] = pub
		}
	}
	return keys
}

// notices appends what a simulator is told to a file that its owner alone can read.
func notices(file string) func(connector.Shown) error {
	return func(n connector.Shown) error {
		line, err := json.Marshal(n)
		if err != nil {
			return err
		}
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(append(line, '\n'))
		return errors.Join(err, f.Close())
	}
}

// connectorPoster makes the outbound client one that the connector can use.
type connectorPoster struct{ *outbound.Client }

func (p connectorPoster) Post(ctx context.Context, address, contentType string, body []byte, header http.Header) (connector.Answer, error) {
	a, err := p.Client.Post(ctx, address, contentType, body, header)
	return connector.Answer{Status: a.Status, Body: a.Body}, err
}
