package hsm

// Listed gives the keyring's keys of a purpose, in the file's order, whether the token has
// them or not.
func (r *Keyring) Listed(p Purpose) []Key {
	var all []Key
	for _, k := range r.Keys {
		if k.Purpose == p {
			all = append(all, k)
		}
	}
	return all
}

// Listed gives the keyring's keys of a purpose; see Keyring.Listed.
func (h *HSM) Listed(p Purpose) []Key { return h.keyring().Listed(p) }

// Listed gives the keyring's keys of a purpose; see Keyring.Listed.
func (t *Token) Listed(p Purpose) []Key { return t.keyring().Listed(p) }
