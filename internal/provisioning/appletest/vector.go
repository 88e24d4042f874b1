package appletest

import "encoding/hex"

// A Vector is one worked example of EV_ECC_v2, each step showing. The slices are
// shared: read them, do not write.
type Vector struct {
	StaticPublicKey     []byte // Apple's, 04|X|Y
	EphemeralPrivateKey []byte // 32 bytes, the scalar
	EphemeralPublicKey  []byte // 04|X|Y
	SharedSecret        []byte // Z
	KDFInput            []byte // 120 bytes
	AESKey              []byte // SHA-256 of KDFInput
	IV                  []byte // 12 zero bytes
	Plaintext           []byte
	Encrypted           []byte // ciphertext and tag

	EphemeralPublicKeyBase64 string
	EncryptedBase64          string
}

// VectorV1 is the scheme's public example: Apple's test leaf
// ecc-crypto-services-encipherment_UC6-InMemory, whose private key is not public, and
// an ephemeral key that is. It stands in several public repositories of issuers, in
// Java and TypeScript, among them the class CryptoUtilsTest of com.hostencryption,
// and was recomputed for this project with an implementation of its own. It has no
// associated data.
var VectorV1 = Vector{
	StaticPublicKey: unhex("04" +
		"2e3e5ccf6b9ab04be7a22f3faccfde73c87e87155394a34815408a896ca18a37" +
		"4dac669af3bf6220fc863767f4af47507c5bc221fc4a19874daf39b4074e3eb8"),
	EphemeralPrivateKey: unhex("7eee47dee108a08edd2bcd2bb762a543ca23ea96c9af09ad54beb9fa3ce1a026"),
	EphemeralPublicKey: unhex("04" +
		"99a6f42e83ea4f150a78780ffb562c9cdb9b7507bc5d28cbfbf8cc3ef0af68b3" +
		"6e60cb10db69127830f7f899492017089e3b73c83fcf0ebdf2c06b613c3f88b7"),
	SharedSecret: unhex("a88b995fecbdf756515ed42ba53a6ccca4f5936f69cf4d15352c94c592b347b1"),
	KDFInput: unhex("00000001" +
		"a88b995fecbdf756515ed42ba53a6ccca4f5936f69cf4d15352c94c592b347b1" +
		"0d69642d6165733235362d47434d" + "4170706c65" +
		"0499a6f42e83ea4f150a78780ffb562c9cdb9b7507bc5d28cbfbf8cc3ef0af68b3" +
		"6e60cb10db69127830f7f899492017089e3b73c83fcf0ebdf2c06b613c3f88b7"),
	AESKey:    unhex("083080d3d0c521c02cd3ae2134363d09ea50dff914677fab9e22f18f9c28a3b9"),
	IV:        make([]byte, 12),
	Plaintext: []byte(`{"Parameter1":"Value1","Parameter2":"Value2","Parameter3":"Value3"}`),
	Encrypted: unhex("e3ef6ba2ffa05b6985fe129e3cb6845c4ea1e94ae98d31a538a4e24906fb720d" +
		"764d640894cd9de7cec00114396651a1ccaedcf480c57a959e925c04492b9cf8" +
		"5fc711fab3cbed10dc2ba99a2bb063ceff8de1"),

	EphemeralPublicKeyBase64: "BJmm9C6D6k8VCnh4D/tWLJzbm3UHvF0oy/v4zD7wr2izbmDLENtpEngw9/iZSSAXCJ47c8g/zw698sBrYTw/iLc=",
	EncryptedBase64: "4+9rov+gW2mF/hKePLaEXE6h6UrpjTGlOKTiSQb7cg12TWQIlM2d587AARQ5ZlGhzK7c9IDFepWeklwESSuc+F/H" +
		"Efqzy+0Q3CupmiuwY87/jeE=",
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("appletest: a constant is not hexadecimal")
	}
	return b
}
