package hsm

import "context"

// TryKDFs tries every way to compute the key agreement's KDF, from best to worst, where an
// epoch stops at the first that gives the known answer. Each way has one probe: with the
// peer's point raw, and if that does not do, as a DER OCTET STRING.
//
// The error is a token that did not answer; a way that it does not have is a probe.
func (t *Token) TryKDFs(ctx context.Context) ([]Probe, error) {
	var all []Probe
	for _, way := range kdfWays {
		p, err := run(ctx, t, t.ec, "try-kdf", func(e *epoch) (Probe, error) { return e.tryKDF(way) })
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (e *epoch) tryKDF(way kdfWay) (Probe, error) {
	var first error
	for _, der := range []bool{false, true} {
		how := kdf{way: way, derPeer: der}
		err := e.proveKDF(how)
		switch {
		case err == nil:
			return Probe{Name: how.String(), OK: true}, nil
		case !incapable(err):
			return Probe{}, err
		case first == nil:
			first = err
		}
	}
	return Probe{Name: way.String(), Err: first.Error()}, nil
}
