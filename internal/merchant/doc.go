// Package merchant is what a merchant's app and its backend need: the merchant JWT that an
// issuer signs, the check of such a JWT, and the Apple proximity token that it obtains.
//
//	service, err := merchant.New(merchant.Config{Recorder: log, Gate: gate, Now: time.Now}, settings)
//	token, err := service.SignToken(ctx, caller, merchant.TokenRequest{Subject: …, User: …, Audience: …})
//
//	claims, err := merchant.ParseClaims(payload)   // of a JWT that package access has verified
//	err = service.CheckToken(claims)
//	proximity, err := service.ProximityToken(ctx, caller, claims)
//
// Signing consumes nothing by itself, so that intent and result are committed at once,
// before the token leaves; with them a day's count, which bounds what a stolen caller can
// have signed.
//
// Who called, and whether the signature and the times of a JWT hold, was decided before:
// nothing here believes a claim that has not been verified.
package merchant
