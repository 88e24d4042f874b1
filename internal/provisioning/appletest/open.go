package appletest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
)

// ErrOpen is returned for a payload that does not open: a point that is not one of
// P-256 in 65 bytes, another recipient's key, or anything changed on the way. As
// from Apple's servers, there is no telling which.
var ErrOpen = errors.New("payload does not open")

// Open opens an EV_ECC_v2 payload with the leaf's private key. ephemeralPublicKey is
// the 65-byte point 04|X|Y and encrypted the ciphertext with its 16-byte tag, both
// after their one Base64.
func Open(leafKey *ecdsa.PrivateKey, ephemeralPublicKey, encrypted []byte) ([]byte, error) {
	key, err := leafKey.ECDH()
	if err != nil {
		return nil, ErrOpen
	}
	return OpenECDH(key, ephemeralPublicKey, encrypted)
}

// OpenECDH is Open for a key in the form of crypto/ecdh.
func OpenECDH(leafKey *ecdh.PrivateKey, ephemeralPublicKey, encrypted []byte) ([]byte, error) {
	ephemeral, err := ecdh.P256().NewPublicKey(ephemeralPublicKey)
	if err != nil {
		return nil, ErrOpen
	}
	z, err := leafKey.ECDH(ephemeral)
	if err != nil {
		return nil, ErrOpen
	}
	return openShared(z, ephemeralPublicKey, encrypted)
}

// openShared opens a payload whose shared secret Z is known.
func openShared(z, ephemeralPublicKey, encrypted []byte) ([]byte, error) {
	key := sha256.Sum256(kdfInput(z, ephemeralPublicKey))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, ErrOpen
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, ErrOpen
	}
	var iv [12]byte // constant: the key is used once
	plain, err := gcm.Open(nil, iv[:], encrypted, nil)
	if err != nil {
		return nil, ErrOpen
	}
	return plain, nil
}

// kdfInput is the 120 bytes that SHA-256 turns into the AES key (NIST SP 800-56A,
// single-step KDF, one block): counter, Z, AlgorithmID, PartyUInfo, PartyVInfo. Only
// the AlgorithmID has its length before it, as one byte; PartyVInfo is the ephemeral
// public key itself.
func kdfInput(z, ephemeralPublicKey []byte) []byte {
	input := []byte{0, 0, 0, 1}
	input = append(input, z...)
	input = append(input, 0x0D)
	input = append(input, "id-aes256-GCM"...)
	input = append(input, "Apple"...)
	return append(input, ephemeralPublicKey...)
}
