package signer_test

import (
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/mintmark/mintmark/hsm/hsmtest"
	"github.com/mintmark/mintmark/signer"
)

// What a JWT takes beside its record, the token's work included.
func BenchmarkSignJWT(b *testing.B) {
	gate := signer.New(hsmtest.New(b).Token)
	for _, k := range kinds(gate) {
		b.Run(k.name, func(b *testing.B) {
			claims := jwt.MapClaims{"iss": "mint", "sub": "merchant-1", "usr": "cashier-1", "aud": "mint", "iat": 1795348800, "exp": 1795349400}
			b.ReportAllocs()
			for b.Loop() {
				k.mustSign(b, claims)
			}
		})
	}
}
