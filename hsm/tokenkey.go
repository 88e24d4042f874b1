package hsm

import (
	"crypto"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ThalesGroup/crypto11"
)

// tokenKey is a key of the keyring as it was found on the token.
type tokenKey struct {
	Key
	handle  handle           // private or secret key; 0 in a process that has no token
	pub     crypto.PublicKey // what the pin answers for; nil for secret keys
	problem KeyProblem       // empty when the key may be used

	lost atomic.Bool // set when it does not sign for its public key

	mu     sync.Mutex // guards signer, which is made at first use
	signer crypto11.Signer
}

// public gives the key's public half.
func (k *tokenKey) public() (crypto.PublicKey, error) {
	if k.pub == nil {
		return nil, fmt.Errorf("key %s is a %s key, which has no public half", k.Name, k.Algorithm)
	}
	return k.pub, nil
}

// problemNow is what keeps the key from being used, if anything does.
func (k *tokenKey) problemNow() KeyProblem {
	if k.lost.Load() {
		return KeyLost
	}
	return k.problem
}

// tokenKeys are the keys of the keyring, by name, as one epoch has them.
type tokenKeys map[string]*tokenKey

// usable gives the key called name if it may be used: an active one, and where inactive
// is set (publishing, opening, finding) also one that is next or retired.
func (t tokenKeys) usable(name string, inactive bool) (*tokenKey, error) {
	k := t[name]
	problem := KeyNotListed
	if k != nil {
		problem = k.problemNow()
	}
	switch {
	case problem == KeyRetired && inactive:
		return k, nil
	case problem == "" && k.State == Next && !inactive:
		problem = KeyNext
	case problem == "":
		return k, nil
	}
	return nil, &KeyError{Name: name, Problem: problem}
}

// activeOf gives the key that new work of a purpose uses, if it is usable.
func (r *Keyring) activeOf(p Purpose, usable func(name string, inactive bool) (*tokenKey, error)) (Key, error) {
	k, err := r.Active(p)
	if err != nil {
		return Key{}, err
	}
	if _, err := usable(k.Name, false); err != nil {
		return Key{}, err
	}
	return k, nil
}

// statuses gives the state of every key of the keyring, in its order. found is nil while
// nothing is known of them.
func (r *Keyring) statuses(found tokenKeys) []KeyStatus {
	all := make([]KeyStatus, 0, len(r.Keys))
	for _, k := range r.Keys {
		problem := KeyNotListed // when this epoch began
		switch {
		case found[k.Name] != nil:
			problem = found[k.Name].problemNow()
		case !r.binds(k.Purpose):
			problem = KeyNotBound
		case found == nil:
			problem = KeyUnknown
		}
		all = append(all, KeyStatus{Key: k, Problem: problem})
	}
	return all
}

// provedKeys are the public keys that any epoch of a member has proved, by name.
type provedKeys struct{ proved sync.Map }

// remember keeps the public keys that an epoch has proved.
func (p *provedKeys) remember(keys tokenKeys) {
	for name, k := range keys {
		if _, err := keys.usable(name, true); err == nil && k.pub != nil {
			p.proved.Store(name, k.pub)
		}
	}
}

// remembered gives the public key of the key called name as an epoch of this process
// proved it, which may be over; nil if none did.
func (p *provedKeys) remembered(name string) crypto.PublicKey {
	pub, _ := p.proved.Load(name)
	return pub
}
