package provisioning

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func chainPEM(chain [][]byte) string {
	var b strings.Builder
	for _, der := range chain {
		b.WriteString(pemBegin + "\n" + lines(b64(der), 64, "\n") + pemEnd + "\n")
	}
	return b.String()
}

func lines(text string, width int, end string) string {
	var b strings.Builder
	for part := range slices.Chunk([]byte(text), width) {
		b.Write(part)
		b.WriteString(end)
	}
	return b.String()
}

func TestEveryFormOfAChainGivesTheSame(t *testing.T) {
	chain := realChain(t)
	three := append(slices.Clone(chain), AppleProduction().root.Raw)
	text := chainPEM(chain)
	for name, tc := range map[string]struct {
		text string
		want [][]byte
	}{
		"PEM":                            {text, chain},
		"PEM of three":                   {chainPEM(three), three},
		"PEM with CRLF and blanks":       {"\r\n \t" + strings.ReplaceAll(text, "\n", "\r\n") + "\r\n\r\n", chain},
		"PEM without last newline":       {strings.TrimSpace(text), chain},
		"Base64 of DER":                  {b64(slices.Concat(chain...)), chain},
		"Base64 of DER, in lines":        {lines(b64(slices.Concat(three...)), 76, "\r\n"), three},
		"Base64 of PEM":                  {b64([]byte(text)), chain},
		"Base64 of PEM with blanks":      {b64([]byte("\n" + text + "\n")), chain},
		"one certificate, left to judge": {b64(chain[0]), chain[:1]},
	} {
		got, err := DecodeChainText(tc.text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, array := range [][]string{
		{b64(chain[0]), b64(chain[1])},
		{lines(b64(chain[0]), 64, "\r\n"), lines(b64(chain[1]), 76, "\n")},
	} {
		got, err := DecodeChain(array)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(chain, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOtherTextsAreRefused(t *testing.T) {
	chain := realChain(t)
	text := chainPEM(chain)
	leaf := chainPEM(chain[:1])
	large := append([]byte{0x30, 0x82, 0x20, 0x00}, make([]byte, 0x2000)...)
	for name, tc := range map[string]struct {
		text   string
		reason ChainReason
	}{
		"empty":                     {"", ReasonTooFew},
		"blanks":                    {" \n\t", ReasonTooFew},
		"too long":                  {strings.Repeat("A", maxChainText+1), ReasonTooLarge},
		"no Base64":                 {"{}", ReasonMalformedBase64},
		"URL alphabet":              {strings.NewReplacer("+", "-", "/", "_").Replace(b64(slices.Concat(chain...))), ReasonMalformedBase64},
		"no padding":                {strings.TrimRight(b64(chain[0]), "="), ReasonMalformedBase64},
		"a space inside":            {"MI ID", ReasonMalformedBase64},
		"trailing bits":             {"MAB=", ReasonMalformedBase64},
		"encoded twice":             {b64([]byte(b64(chain[0]))), ReasonMalformedCertificate},
		"cut":                       {b64(chain[0][:50]), ReasonMalformedCertificate},
		"garbage":                   {b64([]byte("garbage")), ReasonMalformedCertificate},
		"DER, then garbage":         {b64(append(slices.Concat(chain...), 0)), ReasonTrailingBytes},
		"DER, then a cut one":       {b64(append(slices.Clone(chain[0]), chain[1][:50]...)), ReasonMalformedCertificate},
		"five certificates":         {b64(bytes.Repeat(chain[1], 5)), ReasonTooMany},
		"five in PEM":               {strings.Repeat(leaf, 5), ReasonTooMany},
		"large certificate":         {b64(large), ReasonTooLarge},
		"large certificate in PEM":  {chainPEM([][]byte{large}), ReasonTooLarge},
		"text before PEM":           {"subject=x\n" + text, ReasonMalformedBase64},
		"text between":              {leaf + "subject=x\n" + leaf, ReasonMalformedPEM},
		"text after":                {text + "x", ReasonMalformedPEM},
		"header in PEM":             {strings.Replace(text, "\n", "\nA: b\n\n", 1), ReasonMalformedPEM},
		"no end":                    {strings.TrimSuffix(leaf, pemEnd+"\n"), ReasonMalformedPEM},
		"another block":             {strings.ReplaceAll(text, "CERTIFICATE", "PRIVATE KEY"), ReasonMalformedPEM},
		"empty block":               {pemBegin + "\n" + pemEnd, ReasonMalformedCertificate},
		"Base64 of PEM with a text": {b64([]byte(leaf + "x" + leaf)), ReasonMalformedPEM},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeChainText(tc.text)
			wantReason(t, err, tc.reason)
		})
	}
	for name, tc := range map[string]struct {
		array  []string
		reason ChainReason
	}{
		"none":     {nil, ReasonTooFew},
		"five":     {make([]string, 5), ReasonTooMany},
		"empty":    {[]string{b64(chain[0]), ""}, ReasonMalformedCertificate},
		"PEM":      {[]string{leaf, leaf}, ReasonMalformedBase64},
		"large":    {[]string{b64(large)}, ReasonTooLarge},
		"too long": {[]string{strings.Repeat("A", maxCertificateText+1)}, ReasonTooLarge},
	} {
		t.Run("array "+name, func(t *testing.T) {
			_, err := DecodeChain(tc.array)
			wantReason(t, err, tc.reason)
		})
	}
}

func TestLargestChainFits(t *testing.T) {
	large := append([]byte{0x30, 0x82, 0x1f, 0xfc}, make([]byte, 0x1ffc)...)
	four := [][]byte{large, large, large, large}
	text := lines(b64([]byte(strings.ReplaceAll(chainPEM(four), "\n", "\r\n"))), 64, "\r\n")
	for _, text := range []string{text, b64(slices.Concat(four...))} {
		got, err := DecodeChainText(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(four, got); diff != "" {
			t.Error("not the four that went in")
		}
	}
	if _, err := DecodeChain([]string{lines(b64(large), 64, "\r\n")}); err != nil {
		t.Error(err)
	}
}

// Whatever comes in, there is a chain within bounds or a reason, and no panic. The
// seeds are long: fuzz with -fuzzminimizetime 50x, or minimizing takes all the time.
func FuzzDecodeChain(f *testing.F) {
	chain := realChain(f)
	f.Add(chainPEM(chain))
	f.Add(b64(slices.Concat(chain...)))
	f.Add(b64([]byte(chainPEM(chain))))
	f.Add(b64(chain[0][:60]))
	f.Add("-----BEGIN CERTIFICATE-----")
	f.Add("MAAwAA==")
	f.Fuzz(func(t *testing.T, text string) {
		// A new policy each time: what one input left known would steer the next.
		policy := NewChainPolicy(AppleProduction(), at("2019-06-01T00:00:00Z"))
		var refused *ChainError
		for _, decode := range []func() ([][]byte, error){
			func() ([][]byte, error) { return DecodeChainText(text) },
			func() ([][]byte, error) { return DecodeChain(strings.Split(text, ",")) },
		} {
			got, err := decode()
			if err != nil {
				if !errors.As(err, &refused) || reasonTexts[refused.Reason].found == "" {
					t.Fatalf("refused without a reason: %v", err)
				}
				continue
			}
			if len(got) == 0 || len(got) > maxEncodedCertificates {
				t.Fatalf("%d certificates", len(got))
			}
			for _, der := range got {
				if len(der) == 0 || len(der) > maxCertificate {
					t.Fatalf("a certificate of %d bytes", len(der))
				}
			}
			if _, err := policy.Verify(got); err != nil && !errors.As(err, &refused) {
				t.Fatal(err)
			}
		}
	})
}
