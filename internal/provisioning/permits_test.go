package provisioning_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mintmark/mintmark/internal/provisioning"
	"github.com/mintmark/mintmark/internal/provisioning/path"
)

// kept is all decisions that were ever made, in their order; as Decisions it gives the latest
// of each device.
type kept []provisioning.Decision

func (k kept) LatestDecisions(_ context.Context, owner provisioning.Owner, card []byte, now time.Time) (all []provisioning.Decision, _ error) {
	for i, d := range k {
		later := func(o provisioning.Decision) bool {
			return o.Owner == d.Owner && string(o.Card) == string(d.Card) && o.Device == d.Device
		}
		if d.Owner == owner && string(d.Card) == string(card) && now.Before(d.Until) && !slices.ContainsFunc(k[i+1:], later) {
			all = append(all, d)
		}
	}
	return all, nil
}

// Whatever was decided, in whatever order: no token becomes active after a RED or with a step
// to do, until the same device, or the card as a whole, has a later decision; nor for anybody
// but the owner that the decision is about; nor without a decision that counts.
func TestNoSequenceOfDecisionsActivatesWhatMustNotBe(t *testing.T) {
	owners := []provisioning.Owner{owner.Owner, {Tenant: "bank", Issuer: owner.Issuer, Subject: "user-2"}, {Tenant: "shop", Issuer: owner.Issuer, Subject: owner.Subject}}
	devices := []string{"", "phone", "watch"}
	thresholds := path.Defaults()
	rapid.Check(t, func(t *rapid.T) {
		var all kept
		now := start
		for i := range rapid.IntRange(0, 8).Draw(t, "decisions") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
			of := rapid.SampledFrom(owners).Draw(t, "owner")
			a := path.Attempt{Apple: rapid.SampledFrom(path.Colors()).Draw(t, "apple"), Source: rapid.SampledFrom([]path.Source{path.InApp, path.Wallet}).Draw(t, "source"),
				MultiFactor: rapid.Bool().Draw(t, "multiFactor"), Now: now, Credentials: &path.Credentials{}}
			if rapid.Bool().Draw(t, "called") {
				a.Call = &path.Call{At: now, Verified: true}
			}
			d := path.Decide(a, thresholds)
			all = append(all, provisioning.Decision{
				Owner: of, Card: []byte(rapid.SampledFrom([]string{"card-1", "card-2"}).Draw(t, "card")),
				Device: provisioning.DeviceRef(of.Tenant, rapid.SampledFrom(devices).Draw(t, "device")),
				Apple:  a.Apple, Path: d.Path, Required: d.Required, At: now, Until: now.Add(3 * time.Hour), Number: int64(i + 1),
			})
		}
		now = now.Add(time.Duration(rapid.IntRange(0, 200).Draw(t, "later")) * time.Minute)
		of, device := rapid.SampledFrom(owners).Draw(t, "asks"), rapid.SampledFrom(devices).Draw(t, "on")
		err := provisioning.Permits(context.Background(), all, func() time.Time { return now }, of, []byte("card-1"), device, provisioning.ToActivate)
		var forbidden *provisioning.DecisionError
		if err != nil && !errors.As(err, &forbidden) {
			t.Fatal(err)
		}
		// In other words: on each device that is meant the last word must have been a good one.
		permitted := false
		for _, on := range devices {
			if device != "" && on != device {
				continue
			}
			ref := provisioning.DeviceRef(of.Tenant, on)
			var last *provisioning.Decision
			for i, d := range all {
				if d.Owner == of && string(d.Card) == "card-1" && now.Before(d.Until) && (d.Device == ref || d.Device == provisioning.Ref{}) {
					last = &all[i]
				}
			}
			switch {
			case last == nil:
			case last.Path == path.Red || slices.ContainsFunc(last.Required, func(r path.Requirement) bool { return !r.FulfilledBy(path.InAppVerification) }):
				if err == nil {
					t.Fatalf("activates on %q after %+v", on, last)
				}
			default:
				permitted = true
			}
		}
		if err == nil && !permitted {
			t.Fatal("activates without a decision")
		}
	})
}
