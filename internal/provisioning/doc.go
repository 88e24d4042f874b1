// Package provisioning is push provisioning: what an issuer host must do so that a card
// can be added to Apple Wallet from the issuer's own app.
//
// SignCard is the whole of it: it verifies Apple's certificates, claims Apple's nonce,
// opens the card, builds the network's payload, and has the gate seal it and make the
// activation data. Nothing leaves before its result is on record:
//
//	svc, err := provisioning.New(provisioning.Config{…})
//	out, err := svc.SignCard(ctx, who, provisioning.SignCard{
//		ExternalCardID: "card-1",
//		Certificates:   chain, // DER, leaf first
//		Nonce:          "c5846fb5",
//		NonceSignature: "40…",
//		WalletType:     provisioning.ApplePay,
//	})
//
// Card data is clear only inside SignCard: it is opened from the vault, copied into
// the payload, and overwritten.
//
// The package knows the domain, not HTTP and not SQL. What it must keep it writes as
// record.Change values, in the transaction of their record.
package provisioning
