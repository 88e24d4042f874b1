package passes

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/webservice"
)

// ErrNotModified is returned by Fetch to a device that has the version there is.
var ErrNotModified = errors.New("not modified")

// authenticated gives the pass and its type if the token is its own. A pass that is not there is
// answered as a wrong token is, after the same comparison.
func (s *Service) authenticated(ctx context.Context, id ID, token string) (PassRow, TypeRow, error) {
	if _, _, err := s.setting(id.TypeID); err != nil {
		return PassRow{}, TypeRow{}, ErrUnauthorized
	}
	row, shared, err := s.cfg.Rows.PassOf(ctx, id)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return PassRow{}, TypeRow{}, err
	}
	if !passkit.AuthenticationToken(row.Token).Matches(token) {
		return PassRow{}, TypeRow{}, ErrUnauthorized
	}
	return row, shared, nil
}

// Authenticate fails with ErrUnauthorized if the token is not the pass's. Devices are
// authenticated before what they send is looked at.
func (s *Service) Authenticate(ctx context.Context, id ID, token string) error {
	_, _, err := s.authenticated(ctx, id, token)
	return err
}

// Register has a device told of changes of a pass. It reports whether the device was new
// to it; if not, the push token takes the place of the old one.
func (s *Service) Register(ctx context.Context, id ID, device string, who webservice.Credentials, pushToken string) (created bool, err error) {
	row, _, err := s.authenticated(ctx, id, who.Token)
	if err != nil {
		return false, err
	}
	if !webservice.IsIdentifier(device) {
		return false, &FieldError{"deviceIdentifier", "must be 1 to 255 printing characters"}
	}
	if who.Kind == webservice.Apple && !webservice.IsDeviceToken(pushToken) {
		return false, &FieldError{"pushToken", "is not one of Apple's"}
	}
	return s.cfg.Devices.Register(ctx, Registration{
		Device: deviceKey(id.TypeID, device), Pass: row, PushToken: pushToken, Client: who.Kind, At: s.cfg.Now(), Limit: s.cfg.Limits.Registrations,
	})
}

// Unregister has a device told no more. A device that was not registered is as well off.
func (s *Service) Unregister(ctx context.Context, id ID, device string, who webservice.Credentials) error {
	row, _, err := s.authenticated(ctx, id, who.Token)
	if err != nil {
		return err
	}
	return s.cfg.Devices.Unregister(ctx, deviceKey(id.TypeID, device), row)
}

// Updates are the passes of a device that changed, and the tag to ask with next.
type Updates struct {
	Serials []string
	Tag     string
}

// Updated gives the passes of a device that are newer than a tag; none is no error. Who
// knows the device's identifier is the device: the protocol has no other proof here.
//
// The new tag is the greatest stamp among those given. A stamp that becomes visible later
// is greater than all that are visible now, so that the next question finds it.
func (s *Service) Updated(ctx context.Context, id TypeID, device, tag string) (Updates, error) {
	if _, _, err := s.setting(id); err != nil {
		return Updates{}, nil
	}
	changed, err := s.cfg.Devices.ChangedSince(ctx, deviceKey(id, device), id, webservice.ParseTag(tag))
	if err != nil || len(changed) == 0 {
		return Updates{}, err
	}
	var u Updates
	var newest int64
	for _, c := range changed {
		u.Serials = append(u.Serials, c.Serial)
		newest = max(newest, c.Stamp)
	}
	u.Tag = webservice.FormatTag(newest)
	return u, nil
}

// Fetch gives a pass to a device, or ErrNotModified if it has not changed since the time
// that the device has: the one that it was given with the version it has, or zero.
func (s *Service) Fetch(ctx context.Context, id ID, token, requestID string, since time.Time) (Pkpass, error) {
	row, shared, err := s.authenticated(ctx, id, token)
	if err != nil {
		return Pkpass{}, err
	}
	a, err := s.aboutRow(shared)
	if err != nil {
		return Pkpass{}, err
	}
	if at := modified(row, a.row); !since.IsZero() && !at.After(since) {
		return Pkpass{Modified: at}, ErrNotModified
	}
	return s.signed(ctx, Caller{RequestID: requestID}, a, row)
}

// Refused records that a device was refused.
func (s *Service) Refused(ctx context.Context, id ID, requestID string) error {
	in := record.Intent{Operation: record.ServePass, Tenant: id.Tenant, RequestID: requestID}
	if _, _, err := s.setting(id.TypeID); err != nil {
		in.Tenant = "" // a tenant that there is not is no tenant
	}
	return s.cfg.Recorder.Refuse(ctx, in, "token")
}

// Knows reports whether a tenant has pass types here.
func (s *Service) Knows(tenant string) bool {
	for id := range s.settings.Load().Types {
		if id.Tenant == tenant {
			return true
		}
	}
	return false
}

// A DeviceLine is a line that a device told, as it may stand in a log. Device is the
// beginning of the digest by which registrations know it, not its identifier.
type DeviceLine struct {
	Kind                           webservice.LogKind
	Device, PassType, Serial, Text string
}

// DeviceLog counts what devices of a tenant tell, and gives it for the log: without the
// devices' identifiers, which are all that protects their lists.
func (s *Service) DeviceLog(tenant string, lines []webservice.LogLine) []DeviceLine {
	all := make([]DeviceLine, len(lines))
	for i, l := range lines {
		s.cfg.Observer.PassDeviceLog(string(l.Kind))
		all[i] = DeviceLine{Kind: l.Kind, PassType: l.PassType, Serial: Reference(l.Serial)}
		known := func(device string) string {
			key := deviceKey(TypeID{tenant, l.PassType}, device)
			return hex.EncodeToString(key[:8])
		}
		if l.Device != "" {
			all[i].Device = known(l.Device)
		}
		all[i].Text = l.Masked(func(device string) string { return "(" + known(device) + ")" })
	}
	return all
}
