package hsm

import (
	"context"
	"crypto"
	"testing"

	"github.com/mintmark/mintmark/softhsm"
)

// The benchmarks measure what one request asks of the token, with as many callers as
// cores. Compare runs with benchstat:
//
//	go test -run '^$' -bench . -count 10 ./hsm | tee new.txt
//	benchstat old.txt new.txt

func BenchmarkAgreeAndSeal(b *testing.B) {
	tok := open(b, softhsm.New(b), ringOf())
	s := appleSealing(b, receiver(b).PublicKey())
	parallel(b, func() error { return second(tok.AgreeAndSeal(context.Background(), s)) })
}

func BenchmarkSignRSA2048(b *testing.B) {
	on := softhsm.New(b)
	var key Key
	change(b, on, func(u *unit) { key = importRSA(b, u, entry("tav", TAVSigning), hostRSA(b, 0)) })
	tok := open(b, on, ringOf(key))
	digest := sha("message")
	parallel(b, func() error { return second(tok.Sign(context.Background(), key.Name, digest, crypto.SHA256)) })
}

func BenchmarkHMAC(b *testing.B) {
	on := softhsm.New(b)
	var key Key
	change(b, on, func(u *unit) { key = importSecret(b, u, entry("index", CardIndex), fill(2)) })
	tok := open(b, on, ringOf(key))
	data := make([]byte, 48) // as long as an index input
	parallel(b, func() error { return second(tok.HMAC(context.Background(), key.Name, data)) })
}

func parallel(b *testing.B, call func() error) {
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call(); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
