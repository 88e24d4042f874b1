package keys

import "github.com/mintmark/mintmark/hsm"

// A Use is how often a key was given work.
type Use struct {
	Key     string
	Purpose hsm.Purpose
	Times   uint64
}

// Uses lists the keyring's keys with what count says of each; see hsm.HSM.Uses.
func Uses(ring *hsm.Keyring, count func(name string) uint64) []Use {
	all := make([]Use, len(ring.Keys))
	for i, k := range ring.Keys {
		all[i] = Use{k.Name, k.Purpose, count(k.Name)}
	}
	return all
}
