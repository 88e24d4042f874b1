package provisioning

import (
	"encoding/asn1"
	"encoding/base64"
	"strings"
)

// How a chain comes over the API. iOS hands the app an array of DER certificates, and
// apps send them on in more than one way:
//
//	["MIID…", "MIIC…"]                   an array of Base64 DER, leaf first: DecodeChain
//	"-----BEGIN CERTIFICATE-----…"       one PEM text: DecodeChainText
//	"MIID…"                              Base64 of the DER certificates one after another: DecodeChainText
//	"LS0tLS1CRUdJTi…"                    Base64 of a PEM text: DecodeChainText
//
// All give the same [][]byte, for ChainPolicy.Verify. They bound sizes and tell the
// certificates apart; what a certificate contains is Verify's to judge. Base64 is the
// standard alphabet with its padding (RFC 4648, section 4) and zero trailing bits;
// CR and LF are skipped, because base64EncodedString(options:) can be told to break
// lines; no other white space is.

const (
	// maxEncodedCertificates is one more than a chain may have, so that a chain that is
	// too long is told so, and not that it does not decode.
	maxEncodedCertificates = maxChain + 1

	// maxCertificateText and maxChainText hold the largest inputs that could still be
	// right: one certificate in Base64 with line breaks, and four in Base64 of PEM.
	maxCertificateText = 12 << 10
	maxChainText       = 64 << 10
)

const (
	pemBegin = "-----BEGIN CERTIFICATE-----"
	pemEnd   = "-----END CERTIFICATE-----"
	blanks   = " \t\r\n"
)

// DecodeChain decodes an array of certificates, each the Base64 of its DER. Every
// error is a *ChainError.
func DecodeChain(certificates []string) ([][]byte, error) {
	switch {
	case len(certificates) == 0:
		return nil, refuseChain(ReasonTooFew, wholeChain)
	case len(certificates) > maxEncodedCertificates:
		return nil, refuseChain(ReasonTooMany, wholeChain)
	}
	chain := make([][]byte, 0, len(certificates))
	for i, text := range certificates {
		if len(text) > maxCertificateText {
			return nil, refuseChain(ReasonTooLarge, i+1)
		}
		der, err := decodeBase64(text)
		if err != nil {
			return nil, refuseChain(ReasonMalformedBase64, i+1)
		}
		if chain, err = appendCertificate(chain, der); err != nil {
			return nil, err
		}
	}
	return chain, nil
}

// DecodeChainText decodes a chain that is one text: PEM, or the Base64 of PEM, or the
// Base64 of concatenated DER. Which of them it is shows at its beginning. Every error
// is a *ChainError.
func DecodeChainText(text string) ([][]byte, error) {
	if len(text) > maxChainText {
		return nil, refuseChain(ReasonTooLarge, wholeChain)
	}
	text = strings.Trim(text, blanks)
	if text == "" {
		return nil, refuseChain(ReasonTooFew, wholeChain)
	}
	if strings.HasPrefix(text, "-----") {
		return splitPEM(text)
	}
	raw, err := decodeBase64(text)
	if err != nil {
		return nil, refuseChain(ReasonMalformedBase64, wholeChain)
	}
	if inner := strings.Trim(string(raw), blanks); strings.HasPrefix(inner, "-----") {
		return splitPEM(inner)
	}
	return splitDER(raw)
}

// splitPEM takes CERTIFICATE blocks with white space between them and nothing else.
// encoding/pem would skip what it does not understand.
func splitPEM(text string) ([][]byte, error) {
	var chain [][]byte
	for text != "" {
		position := len(chain) + 1
		body, found := strings.CutPrefix(text, pemBegin)
		if !found {
			return nil, refuseChain(ReasonMalformedPEM, position)
		}
		body, text, found = strings.Cut(body, pemEnd)
		if !found {
			return nil, refuseChain(ReasonMalformedPEM, position)
		}
		der, err := decodeBase64(body)
		if err != nil {
			return nil, refuseChain(ReasonMalformedPEM, position)
		}
		if chain, err = appendCertificate(chain, der); err != nil {
			return nil, err
		}
		text = strings.TrimLeft(text, blanks)
	}
	return chain, nil
}

// splitDER cuts concatenated DER values apart. A certificate is a SEQUENCE (X.690, 8.9);
// bytes after the first that do not begin another are trailing bytes of the one before.
func splitDER(raw []byte) ([][]byte, error) {
	var chain [][]byte
	for len(raw) > 0 {
		switch sequence := raw[0] == 0x30; {
		case !sequence && len(chain) == 0:
			return nil, refuseChain(ReasonMalformedCertificate, leafPosition)
		case !sequence:
			return nil, refuseChain(ReasonTrailingBytes, len(chain))
		}
		var one asn1.RawValue
		rest, err := asn1.Unmarshal(raw, &one)
		if err != nil {
			return nil, refuseChain(ReasonMalformedCertificate, len(chain)+1)
		}
		if chain, err = appendCertificate(chain, one.FullBytes); err != nil {
			return nil, err
		}
		raw = rest
	}
	return chain, nil
}

func appendCertificate(chain [][]byte, der []byte) ([][]byte, error) {
	switch {
	case len(chain) == maxEncodedCertificates:
		return nil, refuseChain(ReasonTooMany, wholeChain)
	case len(der) == 0:
		return nil, refuseChain(ReasonMalformedCertificate, len(chain)+1)
	case len(der) > maxCertificate:
		return nil, refuseChain(ReasonTooLarge, len(chain)+1)
	}
	return append(chain, der), nil
}

// decodeBase64 decodes standard Base64 with padding and zero trailing bits. The
// decoder of encoding/base64 skips CR and LF of itself.
func decodeBase64(text string) ([]byte, error) {
	return base64.StdEncoding.Strict().DecodeString(text)
}
