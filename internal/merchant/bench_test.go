package merchant_test

import (
	"testing"

	"github.com/mintmark/mintmark/internal/merchant"
)

// A merchant JWT from the decoded request to the token: checks, signature, record.
func BenchmarkSignToken(b *testing.B) {
	w := newWorld(b)
	req := merchant.TokenRequest{
		Subject: "merchant-1", User: "cashier-1", Audience: "mint.example", BusinessName: "Corner Shop", CategoryCode: "5411", TerminalID: "00000001",
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.svc.SignToken(b.Context(), backend, req); err != nil {
			b.Fatal(err)
		}
	}
}

// What checkjwt does with the payload of a verified token.
func BenchmarkParseClaims(b *testing.B) {
	payload := []byte(`{"iss":"app","sub":"u","usr":"cashier-1","aud":"mint.example","iat":1795348800,"exp":1795349400,"mbn":"Corner Shop","mcc":"5411","x-tid":"00000001"}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := merchant.ParseClaims(payload); err != nil {
			b.Fatal(err)
		}
	}
}
