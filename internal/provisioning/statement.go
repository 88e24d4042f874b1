package provisioning

import (
	"crypto"
	"encoding/hex"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/internal/provisioning/path"
	"github.com/mintmark/mintmark/signer"
)

// StatementType is the typ of statements.
const StatementType = "mintmark-statement+jwt"

// maxStatementLife is how long a statement may be good for, and statementLeeway how far the
// clock of whoever signed it may be ahead of ours.
const (
	maxStatementLife = 24 * time.Hour
	statementLeeway  = time.Minute
)

// StatementKeys are the keys by which a tenant's systems state what they know about a
// cardholder, by tenant and kid.
type StatementKeys map[string]map[string]crypto.PublicKey

// A statement is a JWS by a configured key. It is about one owner's attempts: of one card or
// any, on one device or any. All facts may be left out.
type statement struct {
	Issuer         string `json:"iss"` // with Subject: the owner of the card
	Subject        string `json:"sub"`
	IssuedAt       int64  `json:"iat"` // seconds since 1970
	Expires        int64  `json:"exp"`
	ID             string `json:"jti"`
	ExternalCardID string `json:"externalCardId"`
	DeviceID       string `json:"deviceId"`

	MultiFactor *multiFactorFact `json:"multiFactor"`
	Device      *deviceFact      `json:"device"`
	Credentials *credentialsFact `json:"credentials"`
	Login       *loginFact       `json:"login"`
	Call        *callFact        `json:"callCentre"`
	Channel     *channelFact     `json:"channel"`
}

type (
	// multiFactorFact says that the user was authenticated by more than one factor in the app
	// on the statement's device.
	multiFactorFact struct {
		At time.Time `json:"at"`
	}
	// deviceFact is about the app on the statement's device.
	deviceFact struct {
		AppSince    time.Time `json:"appSince"`
		DeviceSince time.Time `json:"deviceSince"`
		Associated  bool      `json:"associated"`
	}
	// credentialsFact says when they last changed; changedAt left out: never.
	credentialsFact struct {
		ChangedAt time.Time `json:"changedAt"`
		ChannelID string    `json:"channelId"`
	}
	loginFact struct {
		Method string `json:"method"`
		Usual  bool   `json:"usual"`
	}
	callFact struct {
		At       time.Time `json:"at"`
		Verified bool      `json:"verified"`
	}
	// channelFact says since when a channel is the owner's.
	channelFact struct {
		ChannelID string    `json:"channelId"`
		Since     time.Time `json:"since"`
	}
)

// about is what a statement must be about to count.
type about struct {
	owner          Owner
	externalCardID string
	deviceID       string
	now            time.Time
}

// verify gives a statement that a key of the tenant has signed, that is about this and still
// counts; ok is false for any other. A statement without a card is about all of the owner's;
// one that is about a device is of no use for another, nor where none is named.
func (k StatementKeys) verify(compact string, a about) (st statement, ok bool) {
	payload, err := signer.VerifyJWS(compact, StatementType, k[a.owner.Tenant])
	if err != nil || json.Unmarshal(payload, &st, json.RejectUnknownMembers(true)) != nil {
		return statement{}, false
	}
	issued, expires := time.Unix(st.IssuedAt, 0), time.Unix(st.Expires, 0)
	switch {
	case !sameOwner(a.owner, Owner{Tenant: a.owner.Tenant, Issuer: st.Issuer, Subject: st.Subject}),
		st.ExternalCardID != "" && st.ExternalCardID != a.externalCardID,
		st.DeviceID != "" && st.DeviceID != a.deviceID,
		issued.After(a.now.Add(statementLeeway)), !a.now.Before(expires), expires.Sub(issued) > maxStatementLife:
		return statement{}, false
	}
	return st, true
}

// add has an attempt know what the statement says. Facts about an app are none without the
// device that it is on. Of two statements about one thing the one that asks for more counts.
func (st statement) add(a *path.Attempt, tenant string) {
	if st.DeviceID != "" && st.MultiFactor != nil && !st.MultiFactor.At.IsZero() && !st.MultiFactor.At.After(a.Now) {
		a.MultiFactor = true
	}
	if d := st.Device; st.DeviceID != "" && d != nil {
		a.Device = newer(a.Device, path.Device{AppSince: d.AppSince, DeviceSince: d.DeviceSince, Associated: d.Associated})
	}
	if c := st.Credentials; c != nil && (a.Credentials == nil || c.ChangedAt.After(a.Credentials.ChangedAt)) {
		a.Credentials = &path.Credentials{ChangedAt: c.ChangedAt, Channel: channelText(tenant, c.ChannelID)}
	}
	if l := st.Login; l != nil && (a.Login == nil || a.Login.Usual) {
		a.Login = &path.Login{Method: l.Method, Usual: l.Usual}
	}
	if c := st.Call; c != nil && (a.Call == nil || a.Call.Verified && (!c.Verified || c.At.After(a.Call.At))) {
		a.Call = &path.Call{At: c.At, Verified: c.Verified}
	}
}

// newer gives what is known of a device by two statements, the later times counting.
func newer(have *path.Device, d path.Device) *path.Device {
	if have == nil {
		return &d
	}
	if have.AppSince.After(d.AppSince) || have.AppSince.IsZero() {
		d.AppSince = have.AppSince
	}
	if have.DeviceSince.After(d.DeviceSince) || have.DeviceSince.IsZero() {
		d.DeviceSince = have.DeviceSince
	}
	d.Associated = d.Associated && have.Associated
	return &d
}

// channelText is a channel as the rules compare it; empty for none.
func channelText(tenant, channel string) string {
	if channel == "" {
		return ""
	}
	ref := refOf("channel", tenant, channel)
	return hex.EncodeToString(ref[:])
}
