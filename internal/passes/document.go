package passes

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/passkit"
)

// A Document is what a client puts and gets.
type Document struct {
	Pass  jsontext.Value // the pass's own members of pass.json, authenticationToken among them
	Files Files
	// Voided says whether the pass is served as voided; nil leaves that as it is.
	Voided *bool
}

// members are those of a JSON object, undecoded.
type members map[string]jsontext.Value

func objectOf(v jsontext.Value) (members, error) {
	if len(v) == 0 {
		return members{}, nil
	}
	var m members
	if err := json.Unmarshal(v, &m); err != nil || m == nil {
		return nil, errors.New("not a JSON object")
	}
	return m, nil
}

func (m members) encode() (jsontext.Value, error) {
	return json.Marshal(m, json.Deterministic(true))
}

// text is a member that is text, empty if it is absent or something else.
func (m members) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) != nil {
		return ""
	}
	return s
}

func (m members) set(name string, value any) error {
	b, err := json.Marshal(value)
	m[name] = b
	return err
}

// merge is JSON Merge Patch (RFC 7396): objects are merged, null removes, everything else
// replaces.
func merge(base, patch members) (members, error) {
	out := maps.Clone(base)
	for name, value := range patch {
		switch value.Kind() {
		case 'n':
			delete(out, name)
		case '{':
			under, err := objectOf(value)
			if err != nil {
				return nil, err
			}
			over := members{}
			if out[name].Kind() == '{' {
				if over, err = objectOf(out[name]); err != nil {
					return nil, err
				}
			}
			merged, err := merge(over, under)
			if err != nil {
				return nil, err
			}
			if out[name], err = merged.encode(); err != nil {
				return nil, err
			}
		default:
			out[name] = value
		}
	}
	return out, nil
}

// served are the members that the service sets, and what to. A document may repeat them.
func served(id ID, team, webService string) map[string]any {
	return map[string]any{
		"formatVersion":      1,
		"passTypeIdentifier": id.Type,
		"serialNumber":       id.Serial,
		"teamIdentifier":     team,
		"webServiceURL":      webService,
	}
}

// strip takes the members that the service sets out of a document, and the token apart.
func strip(doc members, set map[string]any) (own members, token string, err error) {
	own = maps.Clone(doc)
	for name, value := range set {
		if _, there := own[name]; !there {
			continue
		}
		want, err := json.Marshal(value)
		if err != nil {
			return nil, "", err
		}
		if !bytes.Equal(own[name], want) {
			return nil, "", &FieldError{"pass." + name, "is not what this service sets; leave it out"}
		}
		delete(own, name)
	}
	if _, there := own["authenticationToken"]; there {
		if token = own.text("authenticationToken"); len(token) < 16 || len(token) > 255 {
			return nil, "", &FieldError{"pass.authenticationToken", "must be text of 16 to 255 characters; leave it out to have one made"}
		}
		delete(own, "authenticationToken")
	}
	return own, token, nil
}

// maxFiles bounds the files of a document.
const maxFiles = 64

// check reports a list of files that is malformed. Whether they are there is not asked.
func (f Files) check() error {
	if len(f) > maxFiles {
		return &FieldError{"files", "has more than 64 entries"}
	}
	names := passkit.Bundle{Files: map[string][]byte{passkit.FilePass: nil}}
	for name, sum := range f {
		if b, err := hex.DecodeString(sum); err != nil || len(b) != 32 || hex.EncodeToString(b) != sum {
			return &FieldError{"files", "must give each name the SHA-256 of an uploaded file, in lower-case hex"}
		}
		switch name {
		case passkit.FilePass, passkit.FileManifest, passkit.FileSignature:
			return &FieldError{"files", "has pass.json, manifest.json or signature, which the service makes"}
		}
		names.Files[name] = nil
	}
	if _, err := names.Manifest(); err != nil {
		return &FieldError{"files", "has a name that cannot stand in a pass"}
	}
	return nil
}
