package signer

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/span"
)

// The bounds of a passcode's length in digits.
const (
	MinPasscodeDigits = 6
	MaxPasscodeDigits = 10
)

// DrawPasscode draws a one-time passcode: decimal digits from the token's random numbers,
// each passcode as likely as any other.
func (g *Gate) DrawPasscode(ctx context.Context, t *record.Ticket, digits int) (secret.Text, error) {
	ctx, at := span.Start(ctx, "gate.draw-passcode")
	defer at.End()
	if err := t.Use(record.SendPasscode, "passcode"); err != nil {
		return secret.Text{}, err
	}
	if digits < MinPasscodeDigits || digits > MaxPasscodeDigits {
		return secret.Text{}, fmt.Errorf("draw passcode: %d digits are asked for, and %d to %d may be", digits, MinPasscodeDigits, MaxPasscodeDigits)
	}
	n := uint64(math.Pow10(digits))
	// The numbers from the last multiple of n on would make some passcodes likelier than
	// others. One in 10^9 is among them: twice in a row is no chance.
	for range 2 {
		b, err := g.keys.Random(ctx, 8)
		if err != nil {
			return secret.Text{}, fmt.Errorf("draw passcode: %w", err)
		}
		v := binary.BigEndian.Uint64(b)
		secret.Wipe(b)
		if v < math.MaxUint64/n*n {
			return decimal(v%n, digits), nil
		}
	}
	return secret.Text{}, errors.New("draw passcode: the token's random numbers are none")
}

// decimal writes v with leading zeroes.
func decimal(v uint64, digits int) secret.Text {
	b := make([]byte, digits)
	defer secret.Wipe(b)
	for i := range b {
		b[digits-1-i] = byte('0' + v%10)
		v /= 10
	}
	return secret.NewText(string(b))
}

// A PasscodeMAC is a passcode as it is kept: HMAC-SHA-256 in the token over tenant, id and
// digits. Whoever holds the database cannot try the few passcodes that there are.
type PasscodeMAC struct {
	Key string // the keyring's name of the key
	MAC []byte
}

// PasscodeMAC computes what the passcode called id of a tenant is kept as; with the active
// passcode key, or the one called key, which an earlier PasscodeMAC names.
func (g *Gate) PasscodeMAC(ctx context.Context, t *record.Ticket, key, tenant, id string, code secret.Text) (PasscodeMAC, error) {
	ctx, at := span.Start(ctx, "gate.passcode-mac")
	defer at.End()
	if err := useFor(t, "passcode-mac", record.SendPasscode, record.VerifyPasscode); err != nil {
		return PasscodeMAC{}, err
	}
	k, err := g.passcodeKey(key)
	if err != nil {
		return PasscodeMAC{}, err
	}
	input := framed("mintmark-passcode-v1", tenant, id)
	defer func() { secret.Wipe(input) }()
	code.Reveal(func(digits []byte) { input = append(input, digits...) })
	mac, err := g.keys.HMAC(ctx, k.Name, input)
	if err != nil {
		return PasscodeMAC{}, fmt.Errorf("compute passcode MAC: %w", err)
	}
	return PasscodeMAC{Key: k.Name, MAC: mac}, nil
}

// passcodeKey finds a passcode key by its name, or the active one.
func (g *Gate) passcodeKey(name string) (hsm.Key, error) {
	if name == "" {
		return g.keys.Active(hsm.Passcode)
	}
	k, err := g.keys.Key(name)
	if err == nil && k.Purpose != hsm.Passcode {
		err = fmt.Errorf("compute passcode MAC: key %s is for %s", k.Name, k.Purpose)
	}
	return k, err
}

// Equal compares in constant time.
func (m PasscodeMAC) Equal(other PasscodeMAC) bool {
	return m.Key == other.Key && subtle.ConstantTimeCompare(m.MAC, other.MAC) == 1
}
