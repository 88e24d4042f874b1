package provisioning

import "fmt"

// A ChainReason is why a certificate chain was refused. The texts are stable: they
// stand in problem documents, in the log and in metrics.
type ChainReason string

// The reasons, in the order in which a chain is looked at.
const (
	ReasonMalformedBase64      ChainReason = "malformed-base64"
	ReasonMalformedPEM         ChainReason = "malformed-pem"
	ReasonTooFew               ChainReason = "too-few-certificates"
	ReasonTooMany              ChainReason = "too-many-certificates"
	ReasonTooLarge             ChainReason = "certificate-too-large"
	ReasonMalformedCertificate ChainReason = "malformed-certificate"
	ReasonTrailingBytes        ChainReason = "trailing-bytes"
	ReasonSwappedOrder         ChainReason = "swapped-order"

	ReasonUntrustedRoot     ChainReason = "untrusted-root"
	ReasonWrongIntermediate ChainReason = "wrong-intermediate"
	ReasonIntermediateNotCA ChainReason = "intermediate-not-ca"
	ReasonUnhandledCritical ChainReason = "unhandled-critical-extension"

	ReasonRootExpired             ChainReason = "root-expired"
	ReasonRootNotYetValid         ChainReason = "root-not-yet-valid"
	ReasonIntermediateExpired     ChainReason = "intermediate-expired"
	ReasonIntermediateNotYetValid ChainReason = "intermediate-not-yet-valid"

	ReasonLeafIsCA          ChainReason = "leaf-is-ca"
	ReasonMarkerMissing     ChainReason = "marker-missing"
	ReasonMarkerNotCritical ChainReason = "marker-not-critical"
	ReasonKeyUsage          ChainReason = "key-usage"
	ReasonLeafKey           ChainReason = "leaf-key"
	ReasonLeafExpired       ChainReason = "leaf-expired"
	ReasonLeafNotYetValid   ChainReason = "leaf-not-yet-valid"
	ReasonLeafSignature     ChainReason = "leaf-signature"
)

// reasonTexts says of each reason what was found and what the caller can do.
var reasonTexts = map[ChainReason]struct{ found, remedy string }{
	ReasonMalformedBase64: {"a text is not standard Base64", "encode with the standard alphabet and padding, once; line breaks are the only white space allowed"},
	ReasonMalformedPEM:    {"the PEM text holds something that is no CERTIFICATE block", "send only CERTIFICATE blocks, without headers or text between them"},
	ReasonTooFew:          {"fewer than two certificates", "send the leaf and Apple's intermediate, as iOS hands them over"},
	ReasonTooMany:         {"more than three certificates", "send the leaf and Apple's intermediate, as iOS hands them over"},
	ReasonTooLarge:        {"a certificate or the whole text is larger than any that Apple issues", "send the certificates as iOS hands them over, encoded once"},

	ReasonMalformedCertificate: {"a certificate is not X.509 in DER", "send each certificate as iOS hands it over, in Base64, encoded once"},
	ReasonTrailingBytes:        {"bytes follow a certificate", "send each certificate exactly as iOS hands it over"},
	ReasonSwappedOrder:         {"the first certificate is the issuer of the second", "send the leaf first, then the intermediate"},

	ReasonUntrustedRoot:     {"the intermediate is not signed by the trusted root", "send Apple's certificates in production and the simulated ones elsewhere; check which environment the app talks to"},
	ReasonWrongIntermediate: {"the second certificate is not the intermediate of this kind of leaf", "send " + AppleIntermediateName + " as the second certificate, never a root"},
	ReasonIntermediateNotCA: {"the intermediate may not issue certificates", "send the intermediate as iOS hands it over"},
	ReasonUnhandledCritical: {"a critical extension is not known to this service", "do not use the certificate; report it to the operator, who checks whether Apple changed its certificates"},

	ReasonRootExpired:             {"the trusted root has ended", "the operator checks the clock and updates the service"},
	ReasonRootNotYetValid:         {"the trusted root is not valid yet", "the operator checks the clock"},
	ReasonIntermediateExpired:     {"the intermediate has ended", "start provisioning again on the device to receive current certificates"},
	ReasonIntermediateNotYetValid: {"the intermediate is not valid yet", "the operator checks the clock"},

	ReasonLeafIsCA:          {"the first certificate is a CA", "send the leaf first, then the intermediate"},
	ReasonMarkerMissing:     {"the leaf lacks Apple's marker extension 1.2.840.113635.100.6.39", "send the leaf that iOS hands over for in-app provisioning"},
	ReasonMarkerNotCritical: {"the leaf's marker extension is not critical", "send the leaf that iOS hands over for in-app provisioning"},
	ReasonKeyUsage:          {"the leaf's key usage lacks keyEncipherment", "send the leaf that iOS hands over for in-app provisioning"},
	ReasonLeafKey:           {"the leaf's key is not an EC key on P-256", "send the leaf that iOS hands over for in-app provisioning"},
	ReasonLeafExpired:       {"the leaf has ended", "start provisioning again on the device to receive current certificates"},
	ReasonLeafNotYetValid:   {"the leaf is not valid yet", "the operator checks the clock"},
	ReasonLeafSignature:     {"the leaf is not signed by the intermediate", "send the two certificates that iOS handed over together"},
}

// A ChainError is a refused chain: one reason, and which certificate it is about. It
// holds nothing of the input and wraps no error that does.
type ChainError struct {
	Reason ChainReason

	// Position counts from 1, the leaf; 0 is the chain as a whole, or the trusted
	// root, which the caller did not send.
	Position int
}

func refuseChain(reason ChainReason, position int) error {
	return &ChainError{Reason: reason, Position: position}
}

// Error says what was found.
func (e *ChainError) Error() string {
	if e.Position == 0 {
		return fmt.Sprintf("certificate chain refused (%s): %s", e.Reason, reasonTexts[e.Reason].found)
	}
	return fmt.Sprintf("certificate chain refused (%s, certificate %d): %s", e.Reason, e.Position, reasonTexts[e.Reason].found)
}

// Detail is what was found, without reason and position.
func (e *ChainError) Detail() string { return reasonTexts[e.Reason].found }

// Remedy is what the caller, or the operator if the text says so, can do.
func (e *ChainError) Remedy() string { return reasonTexts[e.Reason].remedy }
