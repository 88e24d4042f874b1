package secret_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/mintmark/mintmark/internal/secret"
)

// Every copy of a secret is the same secret, so that wiping one wipes all.
func TestWipeReachesEveryCopy(t *testing.T) {
	type secretValue interface {
		Reveal(func([]byte))
		Wipe()
	}
	for name, tc := range map[string]struct {
		content string
		copies  func() (a, b secretValue)
	}{
		"PAN": {canaryPAN, func() (secretValue, secretValue) { p := pan(t, canaryPAN); q := p; return p, q }},
		"PIN": {canaryPIN, func() (secretValue, secretValue) { p := secret.NewPIN([]byte(canaryPIN)); q := p; return p, q }},
		"Text": {canaryText, func() (secretValue, secretValue) {
			p := secret.NewText(canaryText)
			q := p
			return p, q
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := tc.copies()
			var kept []byte // what Reveal forbids: the buffer itself
			b.Reveal(func(c []byte) {
				kept = c
				if string(c) != tc.content {
					t.Errorf("copy holds %q", c)
				}
			})
			a.Wipe()
			if !bytes.Equal(kept, make([]byte, len(tc.content))) {
				t.Errorf("the buffer still holds %q", kept)
			}
			for _, v := range []secretValue{a, b} {
				v.Reveal(func(c []byte) {
					if len(c) != 0 {
						t.Errorf("a copy still holds %q", c)
					}
				})
			}
			a.Wipe() // again, without harm
		})
	}
}

// The caller's buffer stays the caller's: to wipe, and without effect on the secret.
func TestSecretsKeepTheirOwnBytes(t *testing.T) {
	digits, pin := []byte(canaryPAN), []byte(canaryPIN)
	p, err := secret.ParsePAN(digits)
	if err != nil {
		t.Fatal(err)
	}
	n := secret.NewPIN(pin)
	secret.Wipe(digits)
	secret.Wipe(pin)
	p.Reveal(func(b []byte) {
		if string(b) != canaryPAN {
			t.Errorf("PAN is %q", b)
		}
	})
	n.Reveal(func(b []byte) {
		if string(b) != canaryPIN {
			t.Errorf("PIN is %q", b)
		}
	})
	if !bytes.Equal(digits, make([]byte, len(digits))) {
		t.Errorf("Wipe left %q", digits)
	}
	if x := secret.NewText("Ada"); x.Len() != 3 {
		t.Errorf("length is %d", x.Len())
	}
}

func TestSecretsAreNotCompared(t *testing.T) {
	for _, v := range []any{secret.PAN{}, secret.PIN{}, secret.Text{}} {
		if typ := reflect.TypeOf(v); typ.Comparable() {
			t.Errorf("%v can be compared with ==", typ)
		}
	}
}

func TestOnlyCardNumbersParse(t *testing.T) {
	for _, tc := range []struct {
		name, digits string
		ok           bool
	}{
		{"Mastercard, 16", "5555341244441115", true},
		{"Visa, 16", "4111111111111111", true},
		{"American Express, 15", "378282246310005", true},
		{"Diners, 14", "30569309025904", true},
		{"Visa of old, 13", "4222222222222", true},
		{"Maestro, 12", "500000000009", true},
		{"Maestro, 19", "6304000000000000000", true},
		{"all zero", "0000000000000000", true}, // a correct check digit; issuers are not known here

		{"empty", "", false},
		{"11 digits", "50000000009", false},
		{"20 digits", "00000000000000000000", false},
		{"check digit off by one", "4111111111111112", false},
		{"two digits swapped", "5555341244441151", false},
		{"blanks", "4111 1111 1111 1111", false},
		{"dashes", "4111-1111-1111-1111", false},
		{"blank before", " 4111111111111111", false},
		{"line end", "4111111111111111\n", false},
		{"letter", "411111111111111l", false},
		{"sign", "+111111111111111", false},
		{"NUL", "411111111111111\x00", false},
		{"Arabic-Indic digits", "٤١١١١١١١١١١١١١١١", false},
		{"full-width digits", "４１１１", false},
		{"bytes past '9'", "411111111111111:", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := secret.ParsePAN([]byte(tc.digits))
			if !tc.ok {
				if !errors.Is(err, secret.ErrNotPAN) || err.Error() != secret.ErrNotPAN.Error() {
					t.Errorf("error is %v, want ErrNotPAN and not a word more", err)
				}
				if p.Last4() != "" {
					t.Error("a refused number was kept")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			p.Reveal(func(b []byte) {
				if string(b) != tc.digits {
					t.Errorf("holds %q", b)
				}
			})
			if p.Last4() != tc.digits[len(tc.digits)-4:] {
				t.Errorf("last digits are %s", p.Last4())
			}
		})
	}
}

// LooksLikePAN is a net: it catches numbers that are none, one in ten by the check
// digit alone, and lets through what is not written as digits.
func TestNetForCardNumbers(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       bool
	}{
		{"alone", "4111111111111111", true},
		{"in a sentence", "card 4111111111111111 was declined", true},
		{"in JSON", `{"pan":"4111111111111111"}`, true},
		{"in a URL", "/cards/4111111111111111/tokens?x=1", true},
		{"in blocks", "4111 1111 1111 1111", true},
		{"with dashes", "4111-1111-1111-1111", true},
		{"American Express in blocks", "3782 822463 10005", true},
		{"13 digits", "4222222222222", true},
		{"19 digits", "6304000000000000000", true},
		{"second of two", "1234567890123 4111111111111111", true},
		{"after a number", "status 200 4111111111111111", true},
		{"before a number", "4111111111111111 200", true},
		{"between numbers", "2026-11-22 4111111111111111 7", true},
		{"before an expiry", "4111111111111111 12-2031", true},
		{"next to letters", "x4111111111111111y", true},
		{"at the end of a line", "4111111111111111\n", true},
		{"after a dash", "id-4111111111111111", true},

		{"not a card number, and caught", "order 1000000000000008", true}, // false alarms are the price
		{"a wrong check digit", "order 1000000000000009", false},
		{"wrong check digit of a card", "4111111111111112", false},

		{"empty", "", false},
		{"no digits", "no digits here", false},
		{"12 digits", "500000000009", false}, // too many other numbers have 12
		{"20 digits", "41111111111111110000", false},
		{"the last four", "card ending 1111", false},
		{"first six and last four", "411111******1111", false},
		{"a date and a time", "2026-11-22T05:11:30.123456789Z", false},
		{"two blanks inside", "4111  111111111111", false}, // limits of the net:
		{"dots inside", "4111.1111.1111.1111", false},
		{"hex", hexDigits("4111111111111111"), false},
		{"blank between any two digits", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", true},
		{"only separators", "- - - -", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := secret.LooksLikePAN(tc.text); got != tc.want {
				t.Errorf("%q: %v, want %v", tc.text, got, tc.want)
			}
		})
	}
}

func hexDigits(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteString("3" + string(s[i]))
	}
	return b.String()
}

// One number in ten has a correct check digit.
func TestNetCatchesOneRandomNumberInTen(t *testing.T) {
	caught := 0
	for last := range 1000 {
		if secret.LooksLikePAN("9999999999999"[:13] + string([]byte{byte('0' + last/100), byte('0' + last/10%10), byte('0' + last%10)})) {
			caught++
		}
	}
	if caught != 100 {
		t.Errorf("%d of 1000 consecutive numbers caught, want 100", caught)
	}
}

func TestPINFileIsReadWithoutItsLineEnd(t *testing.T) {
	for content, want := range map[string]string{
		"1234":                            "1234",
		"1234\n":                          "1234",
		"1234\r\n":                        "1234",
		" 12 34 ":                         " 12 34 ",
		"pä$$wörd\t":                      "pä$$wörd\t",
		strings.Repeat("9", 255):          strings.Repeat("9", 255),
		strings.Repeat("9", 255) + "\r\n": strings.Repeat("9", 255),
	} {
		for _, mode := range []os.FileMode{0o600, 0o400} {
			pin, err := secret.ReadPINFile(fileWith(t, content, mode))
			if err != nil {
				t.Fatal(err)
			}
			pin.Reveal(func(b []byte) {
				if string(b) != want {
					t.Errorf("%q is read as %q", content, b)
				}
			})
		}
	}
}

func TestPINFileThatIsNotOneIsRefused(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "directory")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(fileWith(t, canaryPIN, 0o644), link); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, path, want string }{
		{"missing", filepath.Join(directory, "missing"), "no such file"},
		{"no path", "", "no such file"},
		{"directory", directory, "not a regular file"},
		{"device", os.DevNull, "not a regular file"},
		{"pipe that nobody writes", pipe, "not a regular file"},
		{"empty", fileWith(t, "", 0o600), "is empty"},
		{"only a line end", fileWith(t, "\n", 0o600), "is empty"},
		{"only a DOS line end", fileWith(t, "\r\n", 0o600), "is empty"},
		{"two lines", fileWith(t, canaryPIN+"\nmore", 0o600), "more than one line"},
		{"empty line first", fileWith(t, "\n"+canaryPIN, 0o600), "more than one line"},
		{"two line ends", fileWith(t, canaryPIN+"\n\n", 0o600), "more than one line"},
		{"256 bytes", fileWith(t, strings.Repeat("9", 256), 0o600), "longer than 255"},
		{"256 bytes and a line end", fileWith(t, strings.Repeat("9", 256)+"\r\n", 0o600), "longer than 255"},
		{"1 MiB", fileWith(t, strings.Repeat("9", 1<<20), 0o600), "longer than 255"},
		{"world-readable", fileWith(t, canaryPIN, 0o604), "mode 0604; chmod it"},
		{"group-readable", fileWith(t, canaryPIN, 0o640), "mode 0640; chmod it"},
		{"group-writable", fileWith(t, canaryPIN, 0o620), "mode 0620; chmod it"},
		{"world-writable", fileWith(t, canaryPIN, 0o602), "mode 0602; chmod it"},
		{"executable by others", fileWith(t, canaryPIN, 0o601), "mode 0601; chmod it"},
		{"as most files are", fileWith(t, canaryPIN, 0o644), "mode 0644; chmod it"},
		{"link to such a file", link, "mode 0644; chmod it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pin, err := secret.ReadPINFile(tc.path)
			if !errors.Is(err, secret.ErrPINFile) {
				t.Fatalf("error is %v, want ErrPINFile", err)
			}
			if !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.path) {
				t.Errorf("error %q does not say %q of %s", err, tc.want, tc.path)
			}
			if strings.Contains(err.Error(), canaryPIN) {
				t.Error("the error shows the PIN")
			}
			pin.Reveal(func(b []byte) {
				if len(b) != 0 {
					t.Errorf("a refused file gave %q", b)
				}
			})
		})
	}
}

func fileWith(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		t.Fatal(err)
	}
	return file
}
