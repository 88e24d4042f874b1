// Package passkit makes, checks and reads Wallet passes: the .pkpass files that Apple
// Wallet, and the Android wallets that follow it, install. It knows no server and no
// key store; anything that is a crypto.Signer signs.
//
//	bundle, err := passkit.ReadFolder("card.pass")
//	for _, f := range bundle.Validate() {
//		fmt.Println(f) // error pass.json /nfc/message: has 70 bytes, 64 are the most; shorten it
//	}
//	pkpass, err := bundle.Sign(cms.Signer{
//		Key:           key,
//		Certificate:   leaf,
//		Intermediates: passkit.AppleIntermediates(),
//	}, time.Now())
//
// and the other way round, for a pass from anywhere:
//
//	bundle, err := passkit.Open(pkpass)
//	report := passkit.Verify(bundle, passkit.VerifyOptions{Roots: passkit.AppleRoots(), Now: time.Now()})
//	for _, r := range report.Results {
//		fmt.Println(r) // hash: ok / signature: ok / chain: failed: …
//	}
//
// A Pass is pass.json, a Personalization personalization.json; both keep what they do
// not know. A Bundle is all files of one pass by name. Its Manifest lists their hashes,
// package cms signs the manifest, and Pack makes the archive; Sign does the three in
// one, after Preflight and Validate. Somebody who signs elsewhere calls the parts.
//
// What it promises:
//
//   - A Finding says where (file and JSON Pointer), what, and what to do. Errors are
//     what a device or Apple's own builder refuses; warnings are what it shows wrongly,
//     ignores, or may not know yet.
//   - The same files, time, certificates and RSA key give the same bytes, on the same
//     release of Go: compress/flate may change between releases.
//   - Archives from outside are read with bounds on entries, sizes and ratios, held
//     while inflating, and no byte of an archive may be outside its entries.
//   - Verify names which of hash, signature, chain, identifier and time failed.
//
// What it does not: revocation is not checked, images are checked by header only, and
// the about one hundred semantic tags are kept as they are, but for those without which
// Wallet falls back to another layout.
//
// Keys and limits are from Apple's public documentation, from its pass-builder and from
// public passes; where only observation backs a rule, the comment says so.
package passkit
