package passes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/mintmark/mintmark/internal/record"
	"github.com/mintmark/mintmark/passkit"
	"github.com/mintmark/mintmark/signer"
)

// clock gives the time.
type clock = func() time.Time

// about is what a pass is made of beside itself.
type about struct {
	settings *Settings
	row      TypeRow
	identity signer.PassIdentity
}

func (s *Service) about(ctx context.Context, id TypeID) (about, error) {
	row, err := s.cfg.Rows.TypeOf(ctx, id)
	if err != nil {
		return about{}, err
	}
	return s.aboutRow(row)
}

// aboutRow is about with a row that was read with the pass.
func (s *Service) aboutRow(row TypeRow) (about, error) {
	settings, setting, err := s.setting(row.TypeID)
	if err != nil {
		return about{}, err
	}
	identity, err := setting.identity(row)
	return about{settings, row, identity}, err
}

// team is the team of the certificate.
func (a about) team() string {
	if a.identity.Certificate == nil {
		return ""
	}
	return passkit.ReadMarks(a.identity.Certificate).TeamIdentifier
}

// built is a pass, unsigned.
type built struct {
	bundle *passkit.Bundle
	pass   *passkit.Pass
	about  about
}

func (b built) preflight(now time.Time) []passkit.Finding {
	return passkit.Preflight(b.pass, offline(b.about.identity), now)
}

// build makes the bundle of a pass: the template, the pass's own members over it, what the
// service sets over both, and the files of both.
func (s *Service) build(ctx context.Context, a about, row PassRow) (built, error) {
	template, err := objectOf(a.row.Template)
	if err != nil {
		return built{}, err
	}
	own, err := objectOf(row.Document)
	if err != nil {
		return built{}, err
	}
	doc, err := merge(template, own)
	if err != nil {
		return built{}, err
	}
	set := served(row.ID, a.team(), a.settings.webServiceURL(row.Tenant))
	set["authenticationToken"] = row.Token
	if row.Voided {
		set["voided"] = true
	}
	for name, value := range set {
		if err := doc.set(name, value); err != nil {
			return built{}, err
		}
	}
	text, err := doc.encode()
	if err != nil {
		return built{}, err
	}
	pass, found, err := passkit.Parse(text)
	if err != nil {
		return built{}, errors.Join(&InvalidError{found}, err)
	}
	files := maps.Clone(a.row.Files)
	if files == nil {
		files = Files{}
	}
	maps.Copy(files, row.Files)
	if row.Personal != nil { // it is somebody's own now, and asks nothing any more
		delete(files, passkit.FilePersonalization)
	}
	content, err := s.load(ctx, row.Tenant, files)
	if err != nil {
		return built{}, err
	}
	b := built{&passkit.Bundle{Files: content}, pass, a}
	return b, b.bundle.SetPass(pass)
}

// maxContent bounds what the files of a pass have together, in bytes.
const maxContent = 16 << 20

// load gets files by their digests.
func (s *Service) load(ctx context.Context, tenant string, files Files) (map[string][]byte, error) {
	total := 0
	content := make(map[string][]byte, len(files)+1)
	for name, sum := range files {
		b, _, err := s.files.get(ctx, cacheKey{tenant, sum}, func() ([]byte, error) { return s.cfg.Rows.PassAsset(ctx, tenant, sum) })
		if errors.Is(err, ErrUnknown) {
			return nil, &FieldError{"files", "names a file that was not uploaded; PUT it to assets first"}
		}
		if err != nil {
			return nil, err
		}
		if total += len(b); total > maxContent {
			return nil, &FieldError{"files", "are together larger than 16 MiB"}
		}
		content[name] = b
	}
	return content, nil
}

// A Pkpass is a version of a pass, signed.
type Pkpass struct {
	Content  []byte // shared: not to be changed
	Modified time.Time
}

// modified is the time of a pass's version: its own or its type's, whichever is later.
func modified(row PassRow, t TypeRow) time.Time {
	return time.Unix(max(row.Modified, t.Modified), 0).UTC()
}

// signed gives a pass's bundle: the one that was signed for this version, if it is still
// kept, or one signed and recorded now.
func (s *Service) signed(ctx context.Context, who Caller, a about, row PassRow) (Pkpass, error) {
	if a.identity.Certificate == nil {
		return Pkpass{}, &InvalidError{a.noCertificate(s.cfg.Now())}
	}
	sum := sha256.Sum256(a.identity.Certificate.Raw)
	key := cacheKey{row.Tenant, fmt.Sprintf("%s\x00%s\x00%d\x00%d\x00%x\x00%s", row.Type, row.Serial, row.Version, a.row.Revision, sum, a.settings.PublicURL)}
	content, kept, err := s.bundles.get(ctx, key, func() ([]byte, error) { return s.sign(ctx, who, a, row) })
	if err != nil {
		return Pkpass{}, err
	}
	s.cfg.Observer.PassServed(kept)
	return Pkpass{content, modified(row, a.row)}, nil
}

func (a about) noCertificate(now time.Time) []passkit.Finding {
	return passkit.Preflight(&passkit.Pass{}, offline(a.identity), now)
}

// sign has a version signed: the ticket, the signature, the result, and only then the
// bundle. A crash before the result leaves nothing outside.
func (s *Service) sign(ctx context.Context, who Caller, a about, row PassRow) ([]byte, error) {
	if err := s.cfg.Gate.Ready(record.SignPass); err != nil {
		return nil, err
	}
	b, err := s.build(ctx, a, row)
	if err == nil {
		if found := append(b.bundle.Validate(), b.preflight(s.cfg.Now())...); passkit.HasErrors(found) {
			err = &InvalidError{found}
		}
	}
	var invalid *InvalidError
	if errors.As(err, &invalid) { // counted, since devices ask again and again
		return nil, errors.Join(err, s.cfg.Recorder.Refuse(ctx, who.intent(record.SignPass, row.ID, nil), "not-a-pass"))
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(a.identity.Certificate.Raw)
	ticket, err := s.cfg.Recorder.Open(who.intent(record.SignPass, row.ID, map[string]string{
		"version": strconv.FormatInt(row.Version, 10), "typeRevision": strconv.FormatInt(a.row.Revision, 10),
		"key": a.identity.Key, "certificate": hex.EncodeToString(sum[:]),
	}))
	if err != nil {
		return nil, err
	}
	working, cancel := record.Working(ctx)
	defer cancel()
	held, err := s.cfg.Gate.SignPass(working, ticket, a.identity, b.bundle, s.cfg.Now())
	if err != nil {
		return nil, s.notSigned(ctx, ticket, err)
	}
	receipt, err := record.Conclude(ctx, s.cfg.Recorder, ticket, record.Done(held.Digest()))
	if err != nil {
		return nil, err
	}
	return held.Release(receipt)
}

// notSigned records that nothing was signed. A bundle that no longer makes a pass, since
// its type or the time has changed, is not the caller's fault: it is kept apart from the
// errors of a document.
func (s *Service) notSigned(ctx context.Context, t *record.Ticket, err error) error {
	res := record.Result{Outcome: record.OutcomeFailed, Reason: "failed"}
	var refused *passkit.RefusedError
	if errors.As(err, &refused) {
		res = record.Result{Outcome: record.OutcomeRefused, Reason: "not-a-pass"}
		err = &InvalidError{refused.Findings}
	}
	return errors.Join(err, record.Fail(ctx, s.cfg.Recorder, t, res))
}

var errTogether = &FieldError{"passes", "are together larger than one file may be"}

// Bundle gives a pass, or several in one file, for a client to hand out. The media type is
// passkit.MediaTypePass or passkit.MediaTypePasses.
func (s *Service) Bundle(ctx context.Context, who Caller, ids []ID) (content []byte, mediaType string, err error) {
	if len(ids) == 0 || len(ids) > passkit.MaxPasses {
		return nil, "", &FieldError{"passes", "must name 1 to 10 passes"}
	}
	total := 0
	all := make([][]byte, 0, len(ids))
	for _, id := range ids {
		if _, _, err := s.setting(id.TypeID); err != nil {
			return nil, "", err
		}
		row, shared, err := s.cfg.Rows.PassOf(ctx, id)
		if err != nil {
			return nil, "", err
		}
		a, err := s.aboutRow(shared)
		if err != nil {
			return nil, "", err
		}
		p, err := s.signed(ctx, who, a, row)
		if err != nil {
			return nil, "", err
		}
		if total += len(p.Content); total > passkit.MaxPassesSize {
			return nil, "", errTogether
		}
		all = append(all, p.Content)
	}
	if len(all) == 1 {
		return all[0], passkit.MediaTypePass, nil
	}
	content, err = passkit.PackPasses(all, s.cfg.Now())
	if errors.Is(err, passkit.ErrPasses) {
		err = errTogether
	}
	return content, passkit.MediaTypePasses, err
}
