// Package provisioning is push provisioning: what an issuer host must do so that a card
// can be added to Apple Wallet from the issuer's own app.
//
// SignCard is the heart of it: it verifies Apple's certificates, claims Apple's nonce,
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
// What comes after is by the network's word. PutToken keeps what it tells of a card's tokens
// in wallets, SearchTokens and SearchCards show an app how its cards stand there, Decide
// answers the network's approval check, and ActivateToken has a token activated if the latest
// decision permits. PutEnablement says which cards may be provisioned at all.
//
// Card data is clear only inside the calls that need it: it is opened from the vault, copied
// into what is asked for, and overwritten.
//
// The package knows the domain, not HTTP and not SQL. What it must keep it writes as
// record.Change values, in the transaction of their record.
package provisioning
