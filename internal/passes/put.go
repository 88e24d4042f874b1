package passes

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/passkit/cms"
	"github.com/mintmark/mintmark/signer"
)

// MaxFile bounds a file that is put, in bytes.
const MaxFile = 4 << 20

// PutFile stores a file for a tenant's passes to share, and gives the SHA-256 of its
// content in hex. A file that is there is not written again.
func (s *Service) PutFile(ctx context.Context, who Caller, tenant string, content []byte) (string, error) {
	if len(content) == 0 || len(content) > MaxFile {
		return "", &FieldError{"body", "must have 1 byte to 4 MiB"}
	}
	sum := sha256.Sum256(content)
	name := hex.EncodeToString(sum[:])
	if _, err := s.cfg.Rows.PassAsset(ctx, tenant, name); !errors.Is(err, ErrUnknown) {
		return name, err
	}
	in := who.intent(record.PutPassAsset, ID{TypeID: TypeID{Tenant: tenant}}, map[string]string{"sha256": name})
	return name, s.write(ctx, in, AssetPut{Tenant: tenant, SHA256: name, Content: content, Limits: s.cfg.Limits, Now: s.cfg.Now()})
}

// PutType writes what a tenant gives a pass type: a template, files, and a certificate in
// place of the keyring's. All passes of the type change with it, unless it is what is
// there already. The findings are warnings about the certificate.
//
// Errors: ErrUnknown for a type that the configuration does not name; *FieldError;
// *InvalidError; ErrPrecondition; or one with RetryAfter.
func (s *Service) PutType(ctx context.Context, who Caller, row TypeRow, when Condition) (TypeRow, []passkit.Finding, error) {
	settings, setting, err := s.setting(row.TypeID)
	if err != nil {
		return TypeRow{}, nil, err
	}
	if _, err := objectOf(row.Template); err != nil {
		return TypeRow{}, nil, &FieldError{"template", "must be an object with members of pass.json"}
	}
	if err := row.Files.check(); err != nil {
		return TypeRow{}, nil, err
	}
	if _, err := s.load(ctx, row.Tenant, row.Files); err != nil {
		return TypeRow{}, nil, err
	}
	old, err := s.cfg.Rows.TypeOf(ctx, row.TypeID)
	if err != nil {
		return TypeRow{}, nil, err
	}
	id, err := setting.identity(row)
	if err != nil {
		return TypeRow{}, nil, &FieldError{"certificate", "must be PEM certificates, the pass certificate first"}
	}
	found, err := checkIdentity(row.TypeID, setting, id, s.cfg.Now)
	if err != nil {
		return TypeRow{}, nil, err
	}
	if err := checkTemplate(about{settings, row, id}); err != nil {
		return TypeRow{}, nil, err
	}
	if old.Revision > 0 && when.Holds(old.Revision) && sameType(old, row) {
		return old, found, nil
	}
	found = append(found, lostIcon(old.Files, row.Files)...)
	in := who.intent(record.PutPassType, ID{TypeID: row.TypeID}, nil)
	if id.Certificate != nil {
		sum := sha256.Sum256(id.Certificate.Raw)
		in.Refs["certificate"] = hex.EncodeToString(sum[:])
	}
	err = s.write(ctx, in, TypePut{Row: &row, If: when, Push: settings.Push, Now: s.cfg.Now()})
	return row, found, err
}

// checkTemplate refuses a template whose members are of a wrong type: no pass of the type
// could be made any more. What it leaves out, passes may have.
func checkTemplate(a about) error {
	doc, err := objectOf(a.row.Template)
	if err != nil {
		return err
	}
	for name, value := range served(ID{a.row.TypeID, "serial"}, a.team(), a.settings.webServiceURL(a.row.Tenant)) {
		if err := doc.set(name, value); err != nil {
			return err
		}
	}
	text, err := doc.encode()
	if err != nil {
		return err
	}
	if _, found, err := passkit.Parse(text); err != nil || passkit.HasErrors(found) {
		return errors.Join(&InvalidError{found}, err)
	}
	return nil
}

// lostIcon warns of what no later request would be told: passes that had the type's icon can
// no longer be signed, and it is devices that ask for them.
func lostIcon(before, after Files) []passkit.Finding {
	const icon = "icon.png"
	if before[icon] == "" || after[icon] != "" {
		return nil
	}
	return []passkit.Finding{{Severity: passkit.Warning, File: icon, Message: "the pass type has lost it: passes without one of their own are not served any more",
		Remedy: "add it to the type again, or give each pass one"}}
}

// sameType reports whether two rows are one revision.
func sameType(a, b TypeRow) bool {
	x, errX := objectOf(a.Template)
	y, errY := objectOf(b.Template)
	same := func(v, w jsontext.Value) bool { return bytes.Equal(v, w) }
	return errX == nil && errY == nil && maps.EqualFunc(x, y, same) && maps.Equal(a.Files, b.Files) && a.Certificate == b.Certificate
}

// checkIdentity holds a certificate against the type: its marks, its dates, its issuer, and
// that it is for the same key as the keyring's.
func checkIdentity(id TypeID, setting TypeSetting, with signer.PassIdentity, now clock) ([]passkit.Finding, error) {
	if with.Certificate == nil {
		return nil, nil // the type has none yet; passes say so
	}
	marks := passkit.ReadMarks(with.Certificate)
	p := &passkit.Pass{PassTypeIdentifier: id.Type, TeamIdentifier: marks.TeamIdentifier}
	found := passkit.Preflight(p, offline(with), now())
	if len(setting.Chain) > 0 {
		pinned, ok := setting.Chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !pinned.Equal(with.Certificate.PublicKey) {
			found = append(found, passkit.Finding{Severity: passkit.Error, Message: "the certificate is for another key than the pass type's",
				Remedy: "request it with the type's key, by a signing request made with that"})
		}
	}
	if passkit.HasErrors(found) {
		return found, &InvalidError{found}
	}
	return found, nil
}

// offline is an identity for checks that ask no key. That key and certificate belong
// together is checked with the keyring, and with each signature.
func offline(id signer.PassIdentity) cms.Signer {
	s := cms.Signer{Certificate: id.Certificate, Intermediates: id.Intermediates}
	if id.Certificate != nil {
		s.Key = publicOnly{id.Certificate.PublicKey}
	}
	return s
}

// publicOnly is a key that cannot sign.
type publicOnly struct{ pub crypto.PublicKey }

func (p publicOnly) Public() crypto.PublicKey { return p.pub }

func (publicOnly) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("this key only compares")
}

// Type gives a pass type's row, the zero row if nothing was given to it yet.
func (s *Service) Type(ctx context.Context, id TypeID) (TypeRow, error) {
	if _, _, err := s.setting(id); err != nil {
		return TypeRow{}, err
	}
	return s.cfg.Rows.TypeOf(ctx, id)
}

// A Stored is a pass as clients see it.
type Stored struct {
	PassRow
	Document Document // as it was put, with the token
	Created  bool
	Findings []passkit.Finding // warnings, after a put
}

// Get gives a pass's document.
func (s *Service) Get(ctx context.Context, id ID) (Stored, error) {
	if _, _, err := s.setting(id.TypeID); err != nil {
		return Stored{}, err
	}
	row, _, err := s.cfg.Rows.PassOf(ctx, id)
	if err != nil {
		return Stored{}, err
	}
	return stored(row)
}

// stored puts a row's document together again.
func stored(row PassRow) (Stored, error) {
	own, err := objectOf(row.Document)
	if err == nil {
		err = own.set("authenticationToken", row.Token)
	}
	out := Stored{PassRow: row}
	if err == nil {
		out.Document.Pass, err = own.encode()
	}
	out.Document.Files = row.Files
	return out, err
}

// Put writes a pass as the next version, and has the devices that have it told. A document
// that is the one already there changes nothing. A voided pass stays voided unless the
// document says otherwise.
//
// Errors: ErrUnknown for a type that the configuration does not name; *FieldError;
// *InvalidError; ErrPrecondition; or one with RetryAfter.
func (s *Service) Put(ctx context.Context, who Caller, id ID, doc Document, when Condition) (Stored, error) {
	settings, _, err := s.setting(id.TypeID)
	if err != nil {
		return Stored{}, err
	}
	if !isSerial(id.Serial) {
		return Stored{}, &FieldError{"serialNumber", "must be 1 to 255 printing characters, without a slash"}
	}
	if err := doc.Files.check(); err != nil {
		return Stored{}, err
	}
	old, shared, err := s.cfg.Rows.PassOf(ctx, id)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return Stored{}, err
	}
	if !when.Holds(old.Version) {
		return Stored{}, errors.Join(ErrPrecondition, s.cfg.Recorder.Refuse(ctx, who.intent(record.PutPass, id, nil), "precondition"))
	}
	a, err := s.aboutRow(shared)
	if err != nil {
		return Stored{}, err
	}
	row, b, err := s.next(ctx, a, id, old, doc)
	if err != nil {
		return Stored{}, err
	}
	found := append(b.bundle.Validate(), b.preflight(s.cfg.Now())...)
	if passkit.HasErrors(found) {
		return Stored{}, &InvalidError{found}
	}
	created := old.Version == 0
	if !created && same(old, row) {
		out, err := stored(old)
		out.Findings = found
		return out, err
	}
	if err := s.write(ctx, who.intent(record.PutPass, id, nil), PassPut{Row: &row, If: when, Push: settings.Push, Now: s.cfg.Now()}); err != nil {
		return Stored{}, err
	}
	out, err := stored(row)
	out.Created, out.Findings = created, found
	return out, err
}

// next is the row that a document makes of an old one, and the bundle of it.
func (s *Service) next(ctx context.Context, a about, id ID, old PassRow, doc Document) (PassRow, built, error) {
	whole, err := objectOf(doc.Pass)
	if err != nil {
		return PassRow{}, built{}, &FieldError{"pass", "must be an object with members of pass.json"}
	}
	own, token, err := strip(whole, served(id, a.team(), a.settings.webServiceURL(id.Tenant)))
	if err != nil {
		return PassRow{}, built{}, err
	}
	row := PassRow{ID: id, Ref: old.Ref, Token: old.Token, Files: maps.Clone(doc.Files), Voided: old.Voided, Personal: old.Personal}
	if doc.Voided != nil {
		row.Voided = *doc.Voided
	}
	switch {
	case old.Version == 0:
		if row.Token = token; token == "" {
			row.Token = newToken()
		}
		row.Ref = newRef()
	case token != "" && !passkit.AuthenticationToken(old.Token).Matches(token):
		return PassRow{}, built{}, &FieldError{"pass.authenticationToken", "is another than the pass has, and installed passes would be cut off; leave it out"}
	}
	if row.Document, err = own.encode(); err != nil {
		return PassRow{}, built{}, err
	}
	b, err := s.build(ctx, a, row)
	return row, b, err
}

// same reports whether two rows are one version.
func same(a, b PassRow) bool {
	return bytes.Equal(a.Document, b.Document) && maps.Equal(a.Files, b.Files) && a.Voided == b.Voided
}

// Void has a pass served as voided from now on, and the devices that have it told.
func (s *Service) Void(ctx context.Context, who Caller, id ID, when Condition) error {
	settings, _, err := s.setting(id.TypeID)
	if err != nil {
		return err
	}
	row, _, err := s.cfg.Rows.PassOf(ctx, id)
	if err != nil {
		return err
	}
	if !when.Holds(row.Version) {
		return errors.Join(ErrPrecondition, s.cfg.Recorder.Refuse(ctx, who.intent(record.VoidPass, id, nil), "precondition"))
	}
	if row.Voided {
		return nil
	}
	// What was read is what is voided: a document put meanwhile is not undone.
	read := Only(row.Version)
	row.Voided = true
	err = s.write(ctx, who.intent(record.VoidPass, id, nil), PassPut{Row: &row, If: read, Push: settings.Push, Now: s.cfg.Now()})
	if errors.Is(err, ErrPrecondition) && !when.stated && ctx.Err() == nil {
		return s.Void(ctx, who, id, when)
	}
	return err
}

// isSerial bounds serial numbers, which stand in addresses.
func isSerial(s string) bool {
	if s == "" || len(s) > 255 || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) || r == '/' {
			return false
		}
	}
	return true
}

// newToken is an authentication token: 128 bits in hex.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // does not fail
	return hex.EncodeToString(b[:])
}

// newRef is a random number of 63 bits. That two are alike is refused by the store.
func newRef() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // does not fail
	return int64(binary.BigEndian.Uint64(b[:]) >> 1)
}
