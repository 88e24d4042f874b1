package provisioning

import (
	"context"

	"github.com/mintmark/mintmark/internal/record"
)

// MayActivate asks as an activation does.
func MayActivate(ctx context.Context, s *Service, t *record.Ticket, owner Owner, externalCardID, deviceID string) error {
	return s.permits(ctx, t, ask{owner: owner, externalCardID: externalCardID, deviceID: deviceID, use: ToActivate})
}

// NoticeOfActivation makes the notice that an activation puts beside its result.
func NoticeOfActivation(ctx context.Context, s *Service, t *record.Ticket, a Activated) (Notice, error) {
	return s.activationNotice(ctx, t, a)
}
