package main

import (
	"context"
	"sync"

	"github.com/mintmark/mintmark/internal/report"
)

// ownBuild is buildState, which reads the whole executable, once.
var ownBuild = sync.OnceValue(buildState)

// state is said, for the admin listener.
func (s *service) state(context.Context) any { return s.said() }

// said is what the running service says of itself to the audit report.
func (s *service) said() report.Service {
	st := s.hsm.Stats()
	now := report.Service{
		Build: ownBuild(), Host: hostState(), Started: s.started,
		Config: s.plan.cfg.Digest(), Keyring: s.keyring.Load().Digest(),
		Ephemeral: report.Ephemeral{Created: st.EphemeralCreated, Destroyed: st.EphemeralDestroyed},
	}
	for _, a := range s.checkpoints.Stats().Anchors {
		now.Anchors = append(now.Anchors, report.AnchorState{Name: a.Name, Size: a.Size, Failing: a.Failing})
	}
	return now
}
