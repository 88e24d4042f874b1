package inspect

import (
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type extension = pkix.Extension

var monthYear = regexp.MustCompile(`^(0[1-9]|1[0-2])/\d\d$`)

// payload looks at the JSON inside, without repeating any of its values.
func (r *report) payload(clear []byte) {
	var raw map[string]jsontext.Value
	if err := json.Unmarshal(clear, &raw); err != nil {
		r.wrong("payload", "It must be one JSON object in UTF-8, no member twice, no comma at its end.", "not valid JSON")
		return
	}
	members := map[string]string{}
	for name, v := range raw {
		if name == "auxiliaryCards" {
			continue
		}
		var text string
		if json.Unmarshal(v, &text) != nil {
			r.wrong("payload", "Quote it: version is \"1\", and numbers of cards are strings too.", "%s is no string", name)
			continue
		}
		members[name] = text
	}
	switch version, ok := members["version"]; {
	case ok && version == "0":
		r.wrong("payload", "Use version 1.", "version 0, which is deprecated")
	case version != "1":
		r.wrong("payload", "Set version to \"1\".", "version is missing or not 1")
	}
	auxiliary, coBadged := raw["auxiliaryCards"]
	if coBadged {
		r.auxiliary(auxiliary)
	}
	r.configuration(members, coBadged)
	if e, ok := members["expiration"]; ok && !monthYear.MatchString(e) {
		r.wrong("payload", "Write it as MM/YY.", "expiration is not MM/YY")
	}
	for name, length := range map[string]int{"nonce": 4, "nonceSignature": 81} {
		if b, err := hex.DecodeString(members[name]); members[name] != "" && (err != nil || len(b) != length) {
			r.wrong("payload", "Inside the payload it is hexadecimal, whatever form it came in.", "%s is not %d bytes in hex", name, length)
		}
	}
	r.well("payload", "members %s", strings.Join(slices.Sorted(maps.Keys(raw)), ", "))
}

func (r *report) need(members map[string]string, of string, names ...string) {
	for _, name := range names {
		if strings.TrimSpace(members[name]) == "" {
			r.wrong("payload", "All members of "+of+" are required.", "%s is missing or empty", name)
		}
	}
}

func (r *report) absent(members map[string]string, of string, names ...string) {
	for _, name := range names {
		if _, ok := members[name]; ok {
			r.wrong("payload", "It belongs to another configuration.", "%s in a payload of %s", name, of)
		}
	}
}

func (r *report) block(text string) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		r.wrong("payload", "It is Base64 of the network's block.", "encryptedPrimaryAccountNumber is not Base64")
		return
	}
	if _, err := base64.StdEncoding.DecodeString(string(b)); err == nil {
		r.wrong("payload", "Encode the block once.", "encryptedPrimaryAccountNumber is Base64 twice")
	}
}
