package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/record"
)

// What an entry costs by itself, at numbers of clients.
func BenchmarkEntry(b *testing.B) {
	for _, e := range engines {
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/%d", e.name, clients), func(b *testing.B) {
				s, _ := e.openNew(b)
				log := audit.New(s.Store, time.Now)
				in := record.Intent{
					Operation: record.SignMerchantToken, Tenant: "bank", Issuer: "https://issuer.example", Subject: "merchant-1",
					RequestID: "0198c1c2-6d2e-7c30-8b7e-0f6a4b3d2c1e", Refs: map[string]string{"jti": "0198c1c2-6d2e-7c30-8b7e-0f6a4b3d2c1f"},
				}
				b.SetParallelism(clients)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						ticket, err := log.Open(in)
						if err == nil {
							held := record.Hold(ticket, "token", "x", []byte("x"))
							_, err = log.Conclude(b.Context(), ticket, record.Done(held.Digest()))
						}
						if err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}
