package hsm

import "context"

// hands are goroutines that do units of work, and wait for the next one while the member is
// healthy. A goroutine of its own for each unit would grow its stack anew each time.
type hands chan func()

// do has a unit of work done by a hand that waits, or by a new one.
func (h hands) do(healthy context.Context, work func()) {
	select {
	case h <- work:
	default:
		go h.stay(healthy, work)
	}
}

func (h hands) stay(healthy context.Context, work func()) {
	for {
		work()
		select {
		case work = <-h:
		case <-healthy.Done():
			return
		}
	}
}
