package provisioning

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mintmark/mintmark/internal/provisioning/appletest"
)

func at(when string) func() time.Time {
	t, err := time.Parse(time.RFC3339, when)
	if err != nil {
		panic(err)
	}
	return func() time.Time { return t }
}

// simulated is the time of all simulated chains.
var simulated = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newApple(t testing.TB, options ...appletest.Option) *appletest.Authority {
	t.Helper()
	apple, err := appletest.New(simulated, options...)
	if err != nil {
		t.Fatal(err)
	}
	return apple
}

func issue(t testing.TB, apple *appletest.Authority, options ...appletest.LeafOption) *appletest.Issued {
	t.Helper()
	issued, err := apple.Leaf(options...)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func anchorOf(t testing.TB, apple *appletest.Authority) Anchor {
	t.Helper()
	anchor, err := TestAnchor(apple.Root.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return anchor
}

func wantReason(t testing.TB, err error, reason ChainReason) {
	t.Helper()
	var refused *ChainError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want a ChainError with reason %s", err, reason)
	}
	if refused.Reason != reason {
		t.Fatalf("got %v, want reason %s", err, reason)
	}
}

func TestSimulatedChainVerifies(t *testing.T) {
	apple := newApple(t)
	issued := issue(t, apple)
	policy := NewChainPolicy(anchorOf(t, apple), func() time.Time { return simulated })
	recipient, err := policy.Verify(issued.Chain())
	if err != nil {
		t.Fatal(err)
	}
	if !recipient.ECDSA().Equal(issued.LeafKey.Public()) {
		t.Error("the recipient is not the leaf's key")
	}
	// A third certificate is tolerated, whichever it is.
	for _, third := range [][]byte{apple.Root.Raw, newApple(t).Root.Raw, issued.Leaf.Raw} {
		if _, err := policy.Verify(append(issued.Chain(), third)); err != nil {
			t.Error(err)
		}
	}
}

func foreign(critical bool) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 9999}, Critical: critical, Value: asn1.NullBytes}
}

// Extensions that crypto/x509 counts as handled but that only its own path validation
// handles.
var (
	nameConstraints   = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Critical: true, Value: []byte("\x30\x0d\xa0\x0b\x30\x09\x82\x07a.local")}
	policyConstraints = pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 36}, Critical: true, Value: []byte("\x30\x03\x80\x01\x00")}
)

func TestEachDefectIsRefusedForItsOwnReason(t *testing.T) {
	before, after := simulated.Add(-time.Minute), simulated.Add(time.Minute)
	long, far := simulated.AddDate(-1, 0, 0), simulated.AddDate(1, 0, 0)
	type make func(t *testing.T) (Anchor, [][]byte)
	authority := func(options ...appletest.Option) make {
		return func(t *testing.T) (Anchor, [][]byte) {
			apple := newApple(t, options...)
			return anchorOf(t, apple), issue(t, apple).Chain()
		}
	}
	leaf := func(options ...appletest.LeafOption) make {
		return func(t *testing.T) (Anchor, [][]byte) {
			apple := newApple(t)
			return anchorOf(t, apple), issue(t, apple, options...).Chain()
		}
	}
	chain := func(change func(apple *appletest.Authority, c [][]byte) [][]byte) make {
		return func(t *testing.T) (Anchor, [][]byte) {
			apple := newApple(t)
			return anchorOf(t, apple), change(apple, issue(t, apple).Chain())
		}
	}
	for _, tc := range []struct {
		name     string
		make     make
		reason   ChainReason
		position int
	}{
		{"no certificate", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return nil }), ReasonTooFew, 0},
		{"leaf alone", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return c[:1] }), ReasonTooFew, 0},
		{"four certificates", chain(func(a *appletest.Authority, c [][]byte) [][]byte { return append(c, a.Root.Raw, a.Root.Raw) }), ReasonTooMany, 0},
		{"large leaf", leaf(appletest.Extension(pkix.Extension{Id: foreign(false).Id, Value: append([]byte{4, 0x82, 0x20, 0}, bytes.Repeat([]byte{1}, 8192)...)})), ReasonTooLarge, 1},
		{"empty leaf", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return [][]byte{nil, c[1]} }), ReasonMalformedCertificate, 1},
		{"cut leaf", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return [][]byte{c[0][:100], c[1]} }), ReasonMalformedCertificate, 1},
		{"cut intermediate", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return [][]byte{c[0], c[1][:100]} }), ReasonMalformedCertificate, 2},
		{"malformed third", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return append(c, []byte("root")) }), ReasonMalformedCertificate, 3},
		{"bytes after the leaf", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return [][]byte{append(bytes.Clone(c[0]), 0), c[1]} }), ReasonTrailingBytes, 1},
		{"bytes after the intermediate", chain(func(_ *appletest.Authority, c [][]byte) [][]byte {
			return [][]byte{c[0], append(bytes.Clone(c[1]), c[1]...)}
		}), ReasonTrailingBytes, 2},
		{"bytes after the third", chain(func(a *appletest.Authority, c [][]byte) [][]byte {
			return append(c, append(bytes.Clone(a.Root.Raw), 0))
		}), ReasonTrailingBytes, 3},
		{"intermediate first", chain(func(_ *appletest.Authority, c [][]byte) [][]byte { return [][]byte{c[1], c[0]} }), ReasonSwappedOrder, 0},
		{"root first", chain(func(a *appletest.Authority, c [][]byte) [][]byte { return [][]byte{a.Root.Raw, c[1], c[0]} }), ReasonSwappedOrder, 0},

		{"another root", func(t *testing.T) (Anchor, [][]byte) { return anchorOf(t, newApple(t)), issue(t, newApple(t)).Chain() }, ReasonUntrustedRoot, 2},
		{"another root, sent along", func(t *testing.T) (Anchor, [][]byte) {
			other := newApple(t)
			return anchorOf(t, newApple(t)), append(issue(t, other).Chain(), other.Root.Raw)
		}, ReasonUntrustedRoot, 2},
		{"no anchor", func(t *testing.T) (Anchor, [][]byte) { return Anchor{}, issue(t, newApple(t)).Chain() }, ReasonUntrustedRoot, 0},
		{"root as intermediate", chain(func(a *appletest.Authority, c [][]byte) [][]byte { return [][]byte{c[0], a.Root.Raw} }), ReasonWrongIntermediate, 2},
		{"intermediate CA:false", authority(appletest.IntermediateNotCA()), ReasonIntermediateNotCA, 2},
		{"intermediate without key usage", authority(appletest.IntermediateKeyUsage(0)), ReasonIntermediateNotCA, 2},
		{"intermediate signs CRLs only", authority(appletest.IntermediateKeyUsage(x509.KeyUsageCRLSign)), ReasonIntermediateNotCA, 2},
		{"intermediate with an unknown critical extension", authority(appletest.IntermediateExtension(foreign(true))), ReasonUnhandledCritical, 2},
		{"intermediate with the critical marker", authority(appletest.IntermediateExtension(pkix.Extension{Id: oidMarker, Critical: true, Value: asn1.NullBytes})), ReasonUnhandledCritical, 2},
		{"intermediate with name constraints", authority(appletest.IntermediateExtension(nameConstraints)), ReasonUnhandledCritical, 2},
		{"intermediate with policy constraints", authority(appletest.IntermediateExtension(policyConstraints)), ReasonUnhandledCritical, 2},

		{"root ended", authority(appletest.RootValid(long, before)), ReasonRootExpired, 0},
		{"root to come", authority(appletest.RootValid(after, far)), ReasonRootNotYetValid, 0},
		{"intermediate ended", authority(appletest.IntermediateValid(long, before)), ReasonIntermediateExpired, 2},
		{"intermediate to come", authority(appletest.IntermediateValid(after, far)), ReasonIntermediateNotYetValid, 2},

		{"leaf is a CA", leaf(appletest.CA()), ReasonLeafIsCA, 1},
		{"no marker", leaf(appletest.WithoutMarker()), ReasonMarkerMissing, 1},
		{"marker not critical", leaf(appletest.MarkerNotCritical()), ReasonMarkerNotCritical, 1},
		{"leaf with an unknown critical extension", leaf(appletest.Extension(foreign(true))), ReasonUnhandledCritical, 1},
		{"leaf without key usage", leaf(appletest.KeyUsage(0)), ReasonKeyUsage, 1},
		{"leaf agrees only", leaf(appletest.KeyUsage(x509.KeyUsageKeyAgreement)), ReasonKeyUsage, 1},
		{"leaf signs", leaf(appletest.KeyUsage(x509.KeyUsageDigitalSignature)), ReasonKeyUsage, 1},
		{"leaf on P-384", leaf(appletest.P384()), ReasonLeafKey, 1},
		{"leaf with RSA", leaf(appletest.RSA()), ReasonLeafKey, 1},
		{"leaf ended", leaf(appletest.Valid(long, before)), ReasonLeafExpired, 1},
		{"leaf to come", leaf(appletest.Valid(after, far)), ReasonLeafNotYetValid, 1},
		{"leaf of another intermediate of the same name", chain(func(_ *appletest.Authority, c [][]byte) [][]byte {
			return [][]byte{issue(t, newApple(t)).Leaf.Raw, c[1]}
		}), ReasonLeafSignature, 1},
		{"leaf of another intermediate", chain(func(_ *appletest.Authority, c [][]byte) [][]byte {
			return [][]byte{issue(t, newApple(t, appletest.IntermediateSubject(AppleProduction().root.RawSubject))).Leaf.Raw, c[1]}
		}), ReasonLeafSignature, 1},
		{"signature changed", chain(func(_ *appletest.Authority, c [][]byte) [][]byte {
			c[0] = bytes.Clone(c[0])
			c[0][len(c[0])-1] ^= 1
			return c
		}), ReasonLeafSignature, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			anchor, certs := tc.make(t)
			policy := NewChainPolicy(anchor, func() time.Time { return simulated })
			for range 2 { // the second time with the intermediate known, if it was good
				_, err := policy.Verify(certs)
				wantReason(t, err, tc.reason)
				var refused *ChainError
				if errors.As(err, &refused); refused.Position != tc.position {
					t.Errorf("position %d, want %d", refused.Position, tc.position)
				}
			}
		})
	}
}

func TestHarmlessDifferencesAreAccepted(t *testing.T) {
	for name, tc := range map[string]struct {
		authority []appletest.Option
		leaf      []appletest.LeafOption
	}{
		"unknown extension, not critical":   {leaf: []appletest.LeafOption{appletest.Extension(foreign(false))}},
		"same on the intermediate":          {authority: []appletest.Option{appletest.IntermediateExtension(foreign(false))}},
		"key usage keyEncipherment alone":   {leaf: []appletest.LeafOption{appletest.KeyUsage(x509.KeyUsageKeyEncipherment)}},
		"intermediate signs nothing but it": {authority: []appletest.Option{appletest.IntermediateKeyUsage(x509.KeyUsageCertSign)}},
	} {
		t.Run(name, func(t *testing.T) {
			apple := newApple(t, tc.authority...)
			policy := NewChainPolicy(anchorOf(t, apple), func() time.Time { return simulated })
			if _, err := policy.Verify(issue(t, apple, tc.leaf...).Chain()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProductionTakesOnlyApplesOwn(t *testing.T) {
	policy := NewChainPolicy(AppleProduction(), at("2019-06-01T00:00:00Z"))
	real := realChain(t)

	// A chain below a simulated root.
	_, err := policy.Verify(issue(t, newApple(t)).Chain())
	wantReason(t, err, ReasonUntrustedRoot)

	// The same, with Apple's names on it.
	sub, err := x509.ParseCertificate(real[1])
	if err != nil {
		t.Fatal(err)
	}
	forged, err := appletest.New(at("2019-06-01T00:00:00Z")(), appletest.RootSubject(AppleProduction().root.RawSubject), appletest.IntermediateSubject(sub.RawSubject))
	if err != nil {
		t.Fatal(err)
	}
	issued := issue(t, forged)
	_, err = policy.Verify(issued.Chain())
	wantReason(t, err, ReasonUntrustedRoot)
	_, err = policy.Verify([][]byte{issued.Leaf.Raw, real[1]})
	wantReason(t, err, ReasonLeafSignature)

	// Another intermediate that Apple's root did sign.
	later := NewChainPolicy(AppleProduction(), at("2022-06-01T00:00:00Z"))
	_, err = later.Verify([][]byte{real[0], realCertificate(t, "apple-wwdrca-g6.pem")})
	wantReason(t, err, ReasonWrongIntermediate)
}

func TestKnownIntermediateIsHeldToItsDates(t *testing.T) {
	apple := newApple(t, appletest.IntermediateValid(simulated.Add(-time.Minute), simulated.Add(time.Hour)))
	chain := issue(t, apple).Chain()
	now := simulated
	policy := NewChainPolicy(anchorOf(t, apple), func() time.Time { return now })
	for _, step := range []struct {
		after  time.Duration
		reason ChainReason
	}{{0, ""}, {time.Hour, ""}, {time.Hour + time.Second, ReasonIntermediateExpired}, {-time.Minute - time.Second, ReasonIntermediateNotYetValid}, {0, ""}} {
		now = simulated.Add(step.after)
		_, err := policy.Verify(chain)
		if step.reason == "" {
			if err != nil {
				t.Fatalf("%s: %v", step.after, err)
			}
			continue
		}
		wantReason(t, err, step.reason)
	}
	if len(policy.known.known) != 1 {
		t.Errorf("%d intermediates known, want 1", len(policy.known.known))
	}
}

func TestCacheIsBoundedAndKeepsNoRefusal(t *testing.T) {
	apple, other := newApple(t), newApple(t)
	policy := NewChainPolicy(anchorOf(t, apple), func() time.Time { return simulated })
	_, err := policy.Verify(issue(t, other).Chain())
	wantReason(t, err, ReasonUntrustedRoot)
	if len(policy.known.known) != 0 {
		t.Fatal("a refused intermediate is known")
	}
	var cache intermediateCache
	for i := range maxIntermediates + 3 {
		cache.put([32]byte{byte(i)}, apple.Sub)
		cache.put([32]byte{byte(i)}, apple.Sub)
	}
	if len(cache.known) != maxIntermediates || len(cache.oldest) != maxIntermediates {
		t.Fatalf("%d known, %d in order, want %d", len(cache.known), len(cache.oldest), maxIntermediates)
	}
	if _, ok := cache.get([32]byte{2}); ok {
		t.Error("the oldest is still known")
	}
	if _, ok := cache.get([32]byte{maxIntermediates + 2}); !ok {
		t.Error("the youngest is not known")
	}
}

func TestPolicyIsSafeForConcurrentUse(t *testing.T) {
	apple, other := newApple(t), newApple(t)
	good, bad := issue(t, apple).Chain(), issue(t, other).Chain()
	policy := NewChainPolicy(anchorOf(t, apple), func() time.Time { return simulated })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if _, err := policy.Verify(good); err != nil {
					t.Error(err)
				}
				if _, err := policy.Verify(bad); err == nil {
					t.Error("a foreign chain was accepted")
				}
			}
		})
	}
	wg.Wait()
}

func TestAnchorsArePinnedAndApart(t *testing.T) {
	apple := AppleProduction()
	sum := apple.SHA256()
	if got := strings.ToUpper(hex.EncodeToString(sum[:])); got != "63343ABFB89A6A03EBB57E9B3F5FA7BE7C4F5C756F3017B3A8C488C3653E9179" {
		t.Errorf("fingerprint %s", got)
	}
	if !apple.Production() || apple.IsZero() || apple.NotAfter().Year() != 2039 {
		t.Errorf("%s: production %t", apple, apple.Production())
	}
	if got := NewChainPolicy(apple, nil).Anchor().String(); got != "Apple Root CA - G3 (production), SHA-256 "+appleRootCAG3SHA256 {
		t.Errorf("the policy names its anchor %q", got)
	}
	authority := newApple(t)
	issued := issue(t, authority)
	for _, form := range [][]byte{issued.Root.Raw, issued.RootPEM()} {
		anchor, err := TestAnchor(form)
		if err != nil {
			t.Fatal(err)
		}
		if anchor.Production() || anchor.SHA256() != sha256.Sum256(issued.Root.Raw) {
			t.Error("a test root passes for production, or is another")
		}
	}
	for name, form := range map[string][]byte{
		"nothing":            nil,
		"text":               []byte("root"),
		"Apple's root":       []byte(appleRootCAG3),
		"an intermediate":    issued.Sub.Raw,
		"a leaf":             issued.Leaf.Raw,
		"two certificates":   issued.ChainPEM(),
		"DER and more":       append(bytes.Clone(issued.Root.Raw), 0),
		"another PEM":        pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: issued.Root.Raw}),
		"PEM, with trailers": append(issued.RootPEM(), "x"...),
	} {
		if _, err := TestAnchor(form); !errors.Is(err, ErrTestAnchor) {
			t.Errorf("%s: got %v, want ErrTestAnchor", name, err)
		}
	}
	if zero := (Anchor{}); !zero.IsZero() || zero.Production() || zero.SHA256() != [32]byte{} || !zero.NotAfter().IsZero() || zero.String() == "" {
		t.Error("the zero anchor is something")
	}
}

func TestEveryReasonSaysWhatToDo(t *testing.T) {
	for reason, text := range reasonTexts {
		if text.found == "" || text.remedy == "" {
			t.Errorf("%s lacks a text", reason)
		}
		e := &ChainError{Reason: reason, Position: 1}
		if !strings.Contains(e.Error(), string(reason)) || e.Detail() == "" || e.Remedy() == "" {
			t.Errorf("%s: %v", reason, e)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	apple := newApple(b)
	chain := issue(b, apple).Chain()
	anchor := anchorOf(b, apple)
	clock := func() time.Time { return simulated }
	b.Run("known", func(b *testing.B) {
		policy := NewChainPolicy(anchor, clock)
		for b.Loop() {
			if _, err := policy.Verify(chain); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			if _, err := NewChainPolicy(anchor, clock).Verify(chain); err != nil {
				b.Fatal(err)
			}
		}
	})
}
