package signer

// A Trace is everything that Apple asks for when a sealed payload does not open (guide, 8.3,
// step 4): each step of EV_ECC_v2 with its secrets. Only a Tracer gives one, which is in
// builds with the tag trace alone, and only for test cards.
type Trace struct {
	ApplePublicKey      []byte // uncompressed point
	Payload             []byte // the JSON
	EphemeralPublicKey  []byte // uncompressed point
	EphemeralPrivateKey []byte
	KDFInput            []byte // counter, shared secret, OtherInfo
	AESKey              []byte
	EncryptedData       []byte
}
