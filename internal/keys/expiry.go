package keys

import (
	"context"
	"log/slog"
	"time"

	"github.com/mintmark/mintmark/hsm"
)

// What ends.
const (
	Cryptoperiod      = "cryptoperiod"
	CertificatePeriod = "certificate"
)

// An Expiry is the end of something that a key in use needs.
type Expiry struct {
	Key      string
	Purpose  hsm.Purpose
	State    hsm.State
	What     string // Cryptoperiod or CertificatePeriod
	End      time.Time
	DaysLeft int // negative when it is past
}

// Expiries lists what ends of the keys that are active or next. What a retired key made is
// past the key's own time.
func Expiries(ring *hsm.Keyring, now time.Time) []Expiry {
	var all []Expiry
	for _, k := range ring.Keys {
		if k.State == hsm.Retired {
			continue
		}
		add := func(what string, end time.Time) {
			all = append(all, Expiry{k.Name, k.Purpose, k.State, what, end, daysUntil(now, end)})
		}
		add(Cryptoperiod, k.CryptoperiodEnd())
		if end := k.CertificateEnd(); !end.IsZero() {
			add(CertificatePeriod, end)
		}
	}
	return all
}

// stages are the days left at which people are told, from the last to the first.
var stages = []int{-1, 7, 30, 90}

// stage is the one that days left are in; false while there are more than any.
func stage(days int) (int, bool) {
	for _, s := range stages {
		if days <= s {
			return s, true
		}
	}
	return 0, false
}

// A Watcher tells of each end once a stage: when 90, 30 and 7 days are left, and when it is
// past. A new process tells again what stage it finds.
type Watcher struct {
	// Ring gives the keyring in use.
	Ring func() *hsm.Keyring
	Log  *slog.Logger

	told map[told]bool // owned by Look's caller
}

// told names a line: another certificate of the key, with another end, has its own.
type told struct {
	key, what string
	end       int64
	stage     int
}

// Look tells what has come to a stage that was not told of yet.
func (w *Watcher) Look(now time.Time) {
	if w.told == nil {
		w.told = map[told]bool{}
	}
	for _, e := range Expiries(w.Ring(), now) {
		s, due := stage(e.DaysLeft)
		line := told{e.Key, e.What, e.End.Unix(), s}
		if !due || w.told[line] {
			continue
		}
		w.told[line] = true
		level, text := slog.LevelWarn, "key: "+e.What+" ends"
		if s <= 7 {
			level = slog.LevelError
		}
		if s < 0 {
			text = "key: " + e.What + " is over"
		}
		w.Log.Log(context.Background(), level, text, "key", e.Key, "purpose", string(e.Purpose), "state", string(e.State), "end", e.End.UTC().Format(time.DateOnly), "daysLeft", e.DaysLeft)
	}
}

// lookEvery is how often Run looks: a stage is told within the hour.
const lookEvery = time.Hour

// Run looks at once and then every hour, until the context ends.
func (w *Watcher) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		w.Look(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
