package provisioning

import (
	"context"
	"time"

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

// Permits asks what decisions say of a use of a card, by nothing but them.
func Permits(ctx context.Context, all Decisions, now func() time.Time, owner Owner, card []byte, device string, use Use) error {
	s := &Service{cfg: Config{Decisions: all, Now: now}}
	return s.permitsCard(ctx, card, ask{owner: owner, deviceID: device, use: use})
}

// DeviceRef is what a decision knows a device by.
func DeviceRef(tenant, device string) Ref { return deviceRef(tenant, device) }
