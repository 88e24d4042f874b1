package path

import "time"

// MaxScore is the highest risk score.
const MaxScore = 100

// factors add to the risk score (guide, 4.3). What is not known weighs half of what is known
// to be bad, or a little less.
var factors = []struct {
	name         string
	unknown, bad int
	look         func(a Attempt, t Thresholds) (known, bad bool)
}{
	{"app is new", 10, 20, func(a Attempt, t Thresholds) (bool, bool) {
		return a.Device != nil, a.Device != nil && a.isNew(a.Device.AppSince, t.AppTenure)
	}},
	{"device is new", 5, 10, func(a Attempt, t Thresholds) (bool, bool) {
		return a.Device != nil, a.Device != nil && a.isNew(a.Device.DeviceSince, t.DeviceTenure)
	}},
	{"device was not the user's before", 10, 15, func(a Attempt, _ Thresholds) (bool, bool) {
		return a.Device != nil, a.Device != nil && !a.Device.Associated
	}},
	{"credentials changed", 10, 20, func(a Attempt, t Thresholds) (bool, bool) {
		return a.Credentials != nil, a.Credentials != nil && a.credentialsChanged(t)
	}},
	{"login is unusual", 5, 15, func(a Attempt, _ Thresholds) (bool, bool) {
		return a.Login != nil, a.Login != nil && !a.Login.Usual
	}},
	{"Apple recommends Yellow", 0, 10, func(a Attempt, _ Thresholds) (bool, bool) { return true, a.Apple == Yellow && !a.is0G() }},
	{"Apple recommends Orange or gives 0G", 0, 20, func(a Attempt, _ Thresholds) (bool, bool) { return true, a.is0G() }},
}

// isNew reports whether something that began at since is younger than its tenure, or has
// not begun.
func (a Attempt) isNew(since time.Time, tenure time.Duration) bool {
	return since.IsZero() || a.Now.Sub(since) < tenure
}

// Score is the risk score of an attempt, 0 to MaxScore.
func Score(a Attempt, t Thresholds) int {
	score := 0
	for _, f := range factors {
		switch known, bad := f.look(a, t); {
		case bad:
			score += f.bad
		case !known:
			score += f.unknown
		}
	}
	return min(score, MaxScore)
}
