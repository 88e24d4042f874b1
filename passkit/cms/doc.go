// Package cms makes and reads the one form of the Cryptographic Message Syntax (RFC
// 5652) that signs a Wallet pass: SignedData with a detached signature by one signer,
// in DER.
//
//	signature, err := cms.SignDetached(manifest, cms.Signer{
//		Key:           key, // any crypto.Signer; an HSM's does
//		Certificate:   leaf,
//		Intermediates: known, // the one that issued the leaf is picked
//	}, time.Now())
//	…
//	signed, err := cms.Parse(signature)
//	err = signed.VerifyDetached(manifest) // ErrContent, ErrSignature, …
//
// What it writes, and why so:
//
//   - SHA-256, with the parameters left out (RFC 5754, 2).
//   - The signed attributes contentType, messageDigest and signingTime (RFC 5652, 11),
//     in the order that DER gives a SET (X.690, 11.6). A device refuses a pass without
//     the signing time.
//   - For RSA the signature algorithm rsaEncryption with NULL (RFC 3370, 3.2), as in
//     the passes that Apple's own tools sign; for P-256 ecdsa-with-SHA256.
//   - Two certificates: the signer's, and the intermediate that issued it.
//
// The clock is the caller's. The same content, time, certificates and RSA key give the
// same bytes. ECDSA signatures differ from call to call.
//
// What it reads is the same form from anybody: other digests and signature algorithms
// and attributes in another order are accepted and reported as Deviations. Lengths must
// be DER's: BER with indefinite or padded lengths is refused.
//
// It checks no chain and no date. Whether a certificate is to be trusted is the
// caller's question (package passkit answers it for passes).
package cms
