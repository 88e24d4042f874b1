package passkit

import (
	"bytes"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/mintmark/mintmark/passkit/cms"
)

// A Check is one thing that must be right of a signed pass.
type Check string

// The checks, in the order of a Report.
const (
	CheckHash       Check = "hash"       // the manifest lists exactly the files, with their hashes
	CheckSignature  Check = "signature"  // the signature is over this manifest, by the certificate in it
	CheckChain      Check = "chain"      // that certificate is for passes, below a trusted root
	CheckIdentifier Check = "identifier" // it is for pass.json's pass type and team
	CheckTime       Check = "time"       // it says when it was signed, and the certificates were valid then
)

// Status is how a check went.
type Status string

// The statuses.
const (
	Passed     Status = "ok"
	Failed     Status = "failed"
	NotChecked Status = "not-checked" // what it needs is missing
)

// A Result is how one check went. Message and Remedy are empty if it passed.
type Result struct {
	Check   Check    `json:"check"`
	Status  Status   `json:"status"`
	Message string   `json:"message,omitempty"`
	Remedy  string   `json:"remedy,omitempty"`
	Notes   []string `json:"notes,omitempty"` // what is unusual and not wrong
}

// String is the result on one line.
func (r Result) String() string {
	s := string(r.Check) + ": " + string(r.Status)
	if r.Message != "" {
		s += ": " + r.Message + "; " + r.Remedy
	}
	for _, n := range r.Notes {
		s += " (" + n + ")"
	}
	return s
}

// A Report has a result for every check, each by itself: a pass whose file was changed
// fails hash, and its signature, which is over the manifest, still passes.
type Report struct {
	Results []Result `json:"results"`
}

// OK reports whether all checks passed.
func (r Report) OK() bool {
	return !slices.ContainsFunc(r.Results, func(r Result) bool { return r.Status != Passed })
}

// Failed are the checks that failed.
func (r Report) Failed() (failed []Check) {
	for _, res := range r.Results {
		if res.Status == Failed {
			failed = append(failed, res.Check)
		}
	}
	return failed
}

// VerifyOptions say what to trust.
type VerifyOptions struct {
	// Roots are the anchors: AppleRoots, or a simulation's. The intermediate is taken
	// from the signature.
	Roots *x509.CertPool

	// Now is the time of verifying: a pass signed later than that is refused. The zero
	// time leaves that out.
	Now time.Time
}

// Verify checks a signed pass of anybody's. The certificates count at the time of
// signing, as on a device: a pass stays good after its certificate has ended.
func Verify(b *Bundle, o VerifyOptions) Report {
	v := verifier{bundle: b, options: o}
	v.signed, v.parseErr = cms.Parse(b.Files[FileSignature])
	if v.parseErr == nil {
		v.leaf, _ = v.signed.Signer()
		v.at, v.dated = v.signed.SigningTime()
	}
	if v.leaf != nil {
		v.issuer, _ = cms.Signer{Certificate: v.leaf, Intermediates: v.signed.Certificates}.Issuer()
	}
	return Report{[]Result{v.hash(), v.signature(), v.chain(), v.identifier(), v.time()}}
}

// verifier is what the checks share. leaf and issuer are nil if the signature does not
// have them.
type verifier struct {
	bundle       *Bundle
	options      VerifyOptions
	signed       *cms.SignedData
	parseErr     error
	leaf, issuer *x509.Certificate
	at           time.Time // the signing time, if dated
	dated        bool
}

func failed(c Check, message, remedy string) Result {
	return Result{Check: c, Status: Failed, Message: message, Remedy: remedy}
}

// withoutLeaf is the result of a check that needs the signer's certificate.
func withoutLeaf(c Check) Result {
	return Result{Check: c, Status: NotChecked, Message: "the signature has no signer's certificate", Remedy: "see signature"}
}

const resign = "the issuer must build and sign the pass again"

// hash compares the manifest with the files.
func (v *verifier) hash() Result {
	text, ok := v.bundle.Files[FileManifest]
	if !ok {
		return failed(CheckHash, "manifest.json is missing", resign)
	}
	var listed map[string]string
	if json.Unmarshal(text, &listed) != nil || listed == nil {
		return failed(CheckHash, "manifest.json is not an object of texts", resign)
	}
	var changed, unlisted, missing []string
	for name, content := range v.bundle.Files {
		if name == FileManifest || name == FileSignature {
			continue
		}
		sum := sha1.Sum(content)
		switch want, ok := listed[name]; {
		case !ok:
			unlisted = append(unlisted, name)
		case want != hex.EncodeToString(sum[:]):
			changed = append(changed, name)
		}
	}
	for name := range listed {
		if _, ok := v.bundle.Files[name]; !ok || name == FileManifest || name == FileSignature {
			missing = append(missing, name)
		}
	}
	var faults []string
	for _, f := range []struct {
		what  string
		names []string
	}{{"changed since the manifest was made", changed}, {"not in the manifest", unlisted}, {"in the manifest and not in the pass", missing}} {
		if len(f.names) > 0 {
			faults = append(faults, f.what+": "+some(f.names))
		}
	}
	if len(faults) > 0 {
		return failed(CheckHash, strings.Join(faults, "; "), resign)
	}
	return Result{Check: CheckHash, Status: Passed}
}

// some are the first few names, sorted.
func some(names []string) string {
	const most = 5
	names = slices.Sorted(slices.Values(names))
	shown := make([]string, 0, most)
	for _, n := range names[:min(most, len(names))] {
		shown = append(shown, named(n))
	}
	if more := len(names) - most; more > 0 {
		return strings.Join(shown, ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(shown, ", ")
}

// deviationNotes are the cms package's deviations in words.
var deviationNotes = map[cms.Deviation]string{
	cms.AttributesUnordered: "its attributes are not in DER order, which strict readers reject",
	cms.WeakDigest:          "its digest is SHA-1",
	cms.NoSignedAttributes:  "it has no signed attributes",
	cms.NullMissing:         "its RSA algorithm lacks the NULL parameters that passes usually have",
}

// signature checks the CMS over the manifest, by whatever certificate it names.
func (v *verifier) signature() Result {
	manifest, ok := v.bundle.Files[FileManifest]
	_, signed := v.bundle.Files[FileSignature]
	switch {
	case !signed:
		return failed(CheckSignature, "the pass is not signed", "sign it")
	case v.parseErr != nil:
		return failed(CheckSignature, v.parseErr.Error(), resign)
	case !ok:
		return Result{Check: CheckSignature, Status: NotChecked, Message: "manifest.json is missing", Remedy: "see hash"}
	}
	if err := v.signed.VerifyDetached(manifest); err != nil {
		if errors.Is(err, cms.ErrContent) {
			return failed(CheckSignature, "manifest.json is not the one that was signed", resign)
		}
		return failed(CheckSignature, err.Error(), resign)
	}
	r := Result{Check: CheckSignature, Status: Passed}
	for _, d := range v.signed.Deviations {
		r.Notes = append(r.Notes, deviationNotes[d])
	}
	return r
}

// chain checks who vouches for the certificate. Dates are left to time.
func (v *verifier) chain() Result {
	if v.leaf == nil {
		return withoutLeaf(CheckChain)
	}
	if v.options.Roots == nil { // nil would mean the system's
		return Result{Check: CheckChain, Status: NotChecked, Message: "no root is given", Remedy: "give Apple's"}
	}
	if !ReadMarks(v.leaf).ForPasses {
		return failed(CheckChain, "the certificate is not for passes: it lacks the extended key usage 1.2.840.113635.100.4.14",
			"sign with a certificate of the kind Pass Type ID")
	}
	if fault := pathFault(v.leaf, v.issuer, v.signed.Certificates, v.options.Roots); fault != "" {
		return failed(CheckChain, fault, "sign with a certificate that Apple issued, and enclose the intermediate that issued it")
	}
	r := Result{Check: CheckChain, Status: Passed}
	if !slices.Contains(v.leaf.ExtKeyUsage, x509.ExtKeyUsageClientAuth) {
		r.Notes = append(r.Notes, "the certificate lacks the extended key usage clientAuth, without which it cannot send updates")
	}
	return r
}

// pathFault says why no path leads from a leaf to a root; it is empty where one does. The path
// is built at a moment when leaf and issuer were valid. issuer may be nil.
func pathFault(leaf, issuer *x509.Certificate, between []*x509.Certificate, roots *x509.CertPool) string {
	intermediates := x509.NewCertPool()
	for _, c := range between {
		if !bytes.Equal(c.Raw, leaf.Raw) {
			intermediates.AddCert(c)
		}
	}
	from := leaf.NotBefore
	if issuer != nil && issuer.NotBefore.After(from) {
		from = issuer.NotBefore
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   from,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return chainFault(leaf, issuer, err)
	}
	return ""
}

// chainFault says why a path was not found; x509's own words name certificates that
// anybody may have written. issuer may be nil.
func chainFault(leaf, issuer *x509.Certificate, err error) string {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case sha1Signed(leaf), issuer != nil && sha1Signed(issuer):
		return "a certificate in the chain is signed with SHA-1, which is not accepted"
	case issuer == nil:
		return "the intermediate that issued the certificate is not in the signature"
	case errors.As(err, &unknown):
		return "the intermediate is not issued by a trusted root"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the certificates of the chain were never valid at the same time"
	}
	return "the certificates do not form a chain to a trusted root"
}

func sha1Signed(c *x509.Certificate) bool {
	return c.SignatureAlgorithm == x509.SHA1WithRSA || c.SignatureAlgorithm == x509.ECDSAWithSHA1
}

// identifier holds the certificate's marks against pass.json.
func (v *verifier) identifier() Result {
	if v.leaf == nil {
		return withoutLeaf(CheckIdentifier)
	}
	var pass struct {
		PassTypeIdentifier string `json:"passTypeIdentifier"`
		TeamIdentifier     string `json:"teamIdentifier"`
	}
	if json.Unmarshal(v.bundle.Files[FilePass], &pass) != nil {
		return failed(CheckIdentifier, "pass.json is missing, or not a JSON object with passTypeIdentifier and teamIdentifier", resign)
	}
	marks := ReadMarks(v.leaf)
	if marks.Marker != marks.PassTypeIdentifier {
		return failed(CheckIdentifier, "the certificate's extension 1.2.840.113635.100.6.1.16 is missing, or names another pass type than its subject",
			"sign with a certificate of the kind Pass Type ID")
	}
	if !marks.isFor(pass.PassTypeIdentifier, pass.TeamIdentifier) {
		return failed(CheckIdentifier, fmt.Sprintf("the certificate is for %s of team %s, pass.json has %s of team %s",
			named(marks.PassTypeIdentifier), named(marks.TeamIdentifier), named(pass.PassTypeIdentifier), named(pass.TeamIdentifier)),
			"sign with the certificate of the pass's type and team")
	}
	return Result{Check: CheckIdentifier, Status: Passed}
}

// clockSkew is how far the signer's clock may be ahead.
const clockSkew = 5 * time.Minute

// time holds the signing time against the certificates' dates.
func (v *verifier) time() Result {
	if v.leaf == nil {
		return withoutLeaf(CheckTime)
	}
	if !v.dated {
		return failed(CheckTime, "the signature has no signing time, and devices refuse the pass", resign)
	}
	for _, c := range []struct {
		cert *x509.Certificate
		what string
	}{{v.leaf, "pass certificate"}, {v.issuer, "intermediate"}} {
		if c.cert != nil && (v.at.Before(c.cert.NotBefore) || v.at.After(c.cert.NotAfter)) {
			return failed(CheckTime, fmt.Sprintf("it was signed on %s, and the %s was valid from %s to %s", v.at.Format(time.DateTime), c.what,
				c.cert.NotBefore.UTC().Format(time.DateTime), c.cert.NotAfter.UTC().Format(time.DateTime)), resign)
		}
	}
	now := v.options.Now
	if !now.IsZero() && v.at.After(now.Add(clockSkew)) {
		return failed(CheckTime, "it is signed in the future, on "+v.at.Format(time.DateTime), "check the clocks here and at the signer")
	}
	r := Result{Check: CheckTime, Status: Passed}
	if now.After(v.leaf.NotAfter) {
		r.Notes = append(r.Notes, "the certificate ended on "+v.leaf.NotAfter.UTC().Format(dayForm)+"; installed passes stay valid, updates need a new one")
	}
	return r
}

// sortedNames are a bundle's files by name.
func (b *Bundle) sortedNames() []string { return slices.Sorted(maps.Keys(b.Files)) }
