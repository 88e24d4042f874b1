package webservice

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// A ClientKind is the kind of wallet that a device registered with. Push goes by it.
type ClientKind string

// The kinds by their authorization scheme; X-Pass-Client may name others.
const (
	Apple       ClientKind = "apple"       // ApplePass
	Android     ClientKind = "android"     // AndroidPass
	WalletUnion ClientKind = "walletunion" // WalletUnionPass
)

var schemes = map[string]ClientKind{"applepass": Apple, "androidpass": Android, "walletunionpass": WalletUnion}

// ErrUnauthorized is returned for an Authorization header that is missing or of another
// form.
var ErrUnauthorized = errors.New("no authorization of the form ApplePass, AndroidPass or WalletUnionPass and a token")

// Credentials are what a device shows for a pass.
type Credentials struct {
	Kind  ClientKind
	Token string // the pass's authenticationToken, if it is right
}

// ParseAuthorization reads the one Authorization header of a request, and the name in
// X-Pass-Client with which Android wallets tell themselves apart.
func ParseAuthorization(headers []string, passClient string) (Credentials, error) {
	if len(headers) != 1 {
		return Credentials{}, ErrUnauthorized
	}
	scheme, token, ok := strings.Cut(headers[0], " ")
	kind, known := schemes[strings.ToLower(scheme)]
	if !ok || !known || token == "" {
		return Credentials{}, ErrUnauthorized
	}
	if kind != Apple && isName(passClient) {
		kind = ClientKind(strings.ToLower(passClient))
		if kind == Apple { // an Android wallet must not have itself told by Apple
			kind = Android
		}
	}
	return Credentials{Kind: kind, Token: token}, nil
}

// isName bounds what a client may call itself.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// maxIdentifier bounds identifiers of devices, and push tokens have eight times as much.
const maxIdentifier = 255

// IsIdentifier reports whether a device may be called that.
func IsIdentifier(s string) bool { return printable(s, maxIdentifier) }

func printable(s string, most int) bool {
	if s == "" || len(s) > most || !utf8.ValidString(s) {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// ErrBody is returned for the body of a device's request that says not what it must.
var ErrBody = errors.New("the body is not what this call needs")

// ParseRegistration gives the push token of a registration's body. The published interface
// calls the body optional; without a push token a registration is good for nothing, and
// the error is ErrBody.
func ParseRegistration(body []byte) (pushToken string, err error) {
	var b struct {
		PushToken string `json:"pushToken"`
	}
	if json.Unmarshal(body, &b) != nil || !printable(b.PushToken, 8*maxIdentifier) {
		return "", ErrBody
	}
	return b.PushToken, nil
}

// IsDeviceToken reports whether a push token has the form of Apple's: hexadecimal.
func IsDeviceToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return s != "" && len(s)%2 == 0 && len(s) <= 2*maxIdentifier
}

// A Personalization is what a device sends when a rewards pass becomes somebody's own.
type Personalization struct {
	Token string         // personalizationToken, whose bytes are to be signed
	Info  jsontext.Value // requiredPersonalizationInfo, an object
}

// ParsePersonalization reads the body of personalize.
func ParsePersonalization(body []byte) (Personalization, error) {
	var b struct {
		Token string         `json:"personalizationToken"`
		Info  jsontext.Value `json:"requiredPersonalizationInfo"`
	}
	if json.Unmarshal(body, &b) != nil || b.Token == "" || (b.Info != nil && b.Info.Kind() != '{') {
		return Personalization{}, ErrBody
	}
	if b.Info == nil {
		b.Info = jsontext.Value("{}")
	}
	return Personalization{Token: b.Token, Info: b.Info}, nil
}
