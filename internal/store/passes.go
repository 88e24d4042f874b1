package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/mintmark/mintmark/internal/passes"
)

var _ passes.Rows = (*Store)(nil)

// TypeOf gives a pass type's row.
func (s *Store) TypeOf(ctx context.Context, id passes.TypeID) (passes.TypeRow, error) {
	r := passes.TypeRow{TypeID: id}
	var template, files string
	err := s.read.QueryRowContext(ctx, `SELECT template, files, certificate, revision, content_stamp, content_modified
		FROM pass_types WHERE tenant = ?1 AND type = ?2`, id.Tenant, id.Type).
		Scan(&template, &files, &r.Certificate, &r.Revision, &r.Stamp, &r.Modified)
	if errors.Is(err, sql.ErrNoRows) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal([]byte(files), &r.Files)
	}
	r.Template = []byte(template)
	return r, failed("read pass type", err)
}

// PassOf gives a pass and its type, in one statement and so as of one moment. There is no
// pass without its type's row: whoever writes a pass locks that.
func (s *Store) PassOf(ctx context.Context, id passes.ID) (passes.PassRow, passes.TypeRow, error) {
	r, t := passes.PassRow{ID: id}, passes.TypeRow{TypeID: id.TypeID}
	var template, shared, document, files, state, info string
	err := s.read.QueryRowContext(ctx, `SELECT t.template, t.files, t.certificate, t.revision, t.content_stamp, t.content_modified,
			COALESCE(p.ref, 0), COALESCE(p.document, ''), COALESCE(p.token, ''), COALESCE(p.files, '{}'), COALESCE(p.voided, 0),
			COALESCE(p.version, 0), COALESCE(p.stamp, 0), COALESCE(p.modified, 0), COALESCE(p.personal_state, ''), COALESCE(p.personal_info, '')
		FROM pass_types t LEFT JOIN passes p ON p.tenant = t.tenant AND p.type = t.type AND p.serial = ?1
		WHERE t.tenant = ?2 AND t.type = ?3`, id.Serial, id.Tenant, id.Type).
		Scan(&template, &shared, &t.Certificate, &t.Revision, &t.Stamp, &t.Modified,
			&r.Ref, &document, &r.Token, &files, &r.Voided, &r.Version, &r.Stamp, &r.Modified, &state, &info)
	if errors.Is(err, sql.ErrNoRows) {
		return passes.PassRow{}, t, passes.ErrUnknown
	}
	if err == nil {
		err = errors.Join(json.Unmarshal([]byte(shared), &t.Files), json.Unmarshal([]byte(files), &r.Files))
	}
	t.Template, r.Document = []byte(template), []byte(document)
	if state == "done" {
		r.Personal = []byte(info)
	}
	if err == nil && r.Version == 0 {
		return passes.PassRow{}, t, passes.ErrUnknown
	}
	return r, t, failed("read pass", err)
}

// PassAsset gives a file.
func (s *Store) PassAsset(ctx context.Context, tenant, sha256 string) (content []byte, err error) {
	err = s.read.QueryRowContext(ctx, `SELECT content FROM pass_assets WHERE tenant = ?1 AND sha256 = ?2`, tenant, sha256).Scan(&content)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, passes.ErrUnknown
	}
	return content, failed("read file of passes", err)
}

func putAsset(ctx context.Context, tx tx, a passes.AssetPut) error {
	if err := tx.serialise(ctx, filesOfTenant, a.Tenant); err != nil { // they are counted
		return err
	}
	var there, files, bytes int64
	err := tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN sha256 = ?1 THEN 1 ELSE 0 END), 0), COUNT(*), COALESCE(SUM(LENGTH(content)), 0)
		FROM pass_assets WHERE tenant = ?2`, a.SHA256, a.Tenant).Scan(&there, &files, &bytes)
	if err != nil {
		return failed("count files of passes", err)
	}
	if there == 0 && (a.Limits.Files != 0 && files >= int64(a.Limits.Files) || a.Limits.FileBytes != 0 && bytes+int64(len(a.Content)) > a.Limits.FileBytes) {
		return &passes.QuotaError{Of: "files"}
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO pass_assets (tenant, sha256, content, created_at) VALUES (?1, ?2, ?3, ?4)
		ON CONFLICT (tenant, sha256) DO NOTHING`, a.Tenant, a.SHA256, a.Content, millis(a.Now))
	return failed("write file of passes", err)
}

// typeState is what a change of a type or pass begins with.
type typeState struct {
	revision        int64
	contentModified int64
	stamp           int64 // the new one
	lastModified    int64
}

// nextStamp locks the type's row, which it makes if need be, and gives out the next stamp:
// the time in milliseconds, or one more than the last.
func nextStamp(ctx context.Context, tx tx, id passes.TypeID, now int64) (t typeState, err error) {
	_, err = tx.ExecContext(ctx, `INSERT INTO pass_types
		(tenant, type, template, files, certificate, revision, content_stamp, content_modified, stamp, last_modified)
		VALUES (?1, ?2, '', '{}', '', 0, 0, 0, 0, 0) ON CONFLICT (tenant, type) DO NOTHING`, id.Tenant, id.Type)
	if err == nil {
		err = tx.QueryRowContext(ctx, `UPDATE pass_types SET stamp = CASE WHEN stamp >= ?1 THEN stamp + 1 ELSE ?1 END
			WHERE tenant = ?2 AND type = ?3
			RETURNING revision, content_modified, stamp, last_modified`, now, id.Tenant, id.Type).
			Scan(&t.revision, &t.contentModified, &t.stamp, &t.lastModified)
	}
	return t, failed("give out stamp", err)
}

func putType(ctx context.Context, tx tx, c passes.TypePut) error {
	r := c.Row
	t, err := nextStamp(ctx, tx, r.TypeID, millis(c.Now))
	if err != nil {
		return err
	}
	if !c.If.Holds(t.revision) {
		return passes.ErrPrecondition
	}
	files, err := encodeFiles(r.Files)
	if err != nil {
		return err
	}
	r.Revision, r.Stamp, r.Modified = t.revision+1, t.stamp, max(c.Now.Unix(), t.lastModified+1)
	_, err = tx.ExecContext(ctx, `UPDATE pass_types SET template = ?1, files = ?2, certificate = ?3, revision = ?4,
		content_stamp = ?5, content_modified = ?6, last_modified = ?6
		WHERE tenant = ?7 AND type = ?8`,
		string(r.Template), files, r.Certificate, r.Revision, r.Stamp, r.Modified, r.Tenant, r.Type)
	if err != nil {
		return failed("write pass type", err)
	}
	if !c.Push {
		return nil
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO pass_pushes (tenant, type, push_token, client, attempts, fence, due_at)
		SELECT p.tenant, p.type, r.push_token, MIN(r.client), 0, 0, CAST(?1 AS BIGINT)
		FROM pass_registrations r JOIN passes p ON p.ref = r.pass
		WHERE p.tenant = ?2 AND p.type = ?3 GROUP BY p.tenant, p.type, r.push_token ORDER BY r.push_token
		ON CONFLICT (tenant, type, push_token) DO UPDATE
		SET attempts = 0, fence = pass_pushes.fence + 1, due_at = excluded.due_at`, millis(c.Now), r.Tenant, r.Type)
	return failed("write pushes of pass type", err)
}

func encodeFiles(f passes.Files) (string, error) {
	if f == nil {
		f = passes.Files{}
	}
	b, err := json.Marshal(f)
	return string(b), err
}

// newVersion locks the type's row, and gives the stamp of a pass's next version and the
// earliest second that it may have by the type.
func newVersion(ctx context.Context, tx tx, id passes.TypeID, now time.Time) (stamp, earliest int64, err error) {
	t, err := nextStamp(ctx, tx, id, millis(now))
	return t.stamp, max(now.Unix(), t.contentModified+1), err
}

func putPass(ctx context.Context, tx tx, c passes.PassPut) error {
	r := c.Row
	files, err := encodeFiles(r.Files)
	if err != nil {
		return err
	}
	// The type's row is locked before the pass is looked at: see newVersion.
	var stamp, at, version, modified int64
	if stamp, at, err = newVersion(ctx, tx, r.TypeID, c.Now); err != nil {
		return err
	}
	err = tx.QueryRowContext(ctx, `SELECT version, modified FROM passes WHERE tenant = ?1 AND type = ?2 AND serial = ?3`,
		r.Tenant, r.Type, r.Serial).Scan(&version, &modified)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return failed("read pass", err)
	}
	if !c.If.Holds(version) {
		return passes.ErrPrecondition
	}
	at = max(at, modified+1)
	if err := raiseModified(ctx, tx, r.TypeID, at); err != nil {
		return err
	}
	r.Version, r.Stamp, r.Modified = version+1, stamp, at
	if version == 0 {
		_, err = tx.ExecContext(ctx, `INSERT INTO passes (ref, tenant, type, serial, document, token, files, voided, version, stamp, modified,
			personal_state, personal_fence, personal_until, personal_info)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 'free', 0, 0, '')`,
			r.Ref, r.Tenant, r.Type, r.Serial, string(r.Document), r.Token, files, number(r.Voided), r.Version, r.Stamp, r.Modified)
		return failed("write pass", err)
	}
	// The token stays: installed passes hold it.
	err = tx.QueryRowContext(ctx, `UPDATE passes SET document = ?1, files = ?2, voided = ?3, version = ?4, stamp = ?5, modified = ?6
		WHERE tenant = ?7 AND type = ?8 AND serial = ?9 RETURNING ref, token`,
		string(r.Document), files, number(r.Voided), r.Version, r.Stamp, r.Modified, r.Tenant, r.Type, r.Serial).Scan(&r.Ref, &r.Token)
	if err != nil {
		return failed("write pass", err)
	}
	if !c.Push {
		return nil
	}
	return enqueue(ctx, tx, *r, millis(c.Now))
}

// raiseModified notes the second of a version: the type's own next revision comes after.
func raiseModified(ctx context.Context, tx tx, id passes.TypeID, at int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE pass_types SET last_modified = ?1
		WHERE last_modified < ?1 AND tenant = ?2 AND type = ?3`, at, id.Tenant, id.Type)
	return failed("note time of pass type", err)
}

// enqueue has the devices of a pass told. An entry that is there is written anew.
func enqueue(ctx context.Context, tx tx, r passes.PassRow, now int64) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO pass_pushes (tenant, type, push_token, client, attempts, fence, due_at)
		SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), push_token, MIN(client), 0, 0, CAST(?3 AS BIGINT)
		FROM pass_registrations WHERE pass = ?4 GROUP BY push_token ORDER BY push_token
		ON CONFLICT (tenant, type, push_token) DO UPDATE
		SET attempts = 0, fence = pass_pushes.fence + 1, due_at = excluded.due_at`, r.Tenant, r.Type, now, r.Ref)
	return failed("write pushes", err)
}

// number is how booleans are kept.
func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// claimPersonal takes a pass's personalisation if it is free, or its lease ran out.
func claimPersonal(ctx context.Context, tx tx, c *passes.PersonalClaim) error {
	err := tx.QueryRowContext(ctx, `UPDATE passes SET personal_state = 'claimed', personal_fence = personal_fence + 1, personal_until = ?1
		WHERE ref = ?2 AND (personal_state = 'free' OR (personal_state = 'claimed' AND personal_until <= ?3))
		RETURNING personal_fence`, millis(c.Until), c.Pass.Ref, millis(c.Now)).Scan(&c.Fence)
	if errors.Is(err, sql.ErrNoRows) {
		return passes.ErrPersonalized
	}
	return failed("claim personalisation", err)
}

// endPersonal ends a claim, if it is still the one that the fence names. A pass that was
// personalised has a new version, which no longer asks.
func endPersonal(ctx context.Context, tx tx, e passes.PersonalEnd) error {
	c, state, info := e.Claim, "free", ""
	if e.Used {
		state, info = "done", string(c.Info)
	}
	var stamp, at int64
	var err error
	if e.Used { // before the pass's row is touched: see newVersion
		if stamp, at, err = newVersion(ctx, tx, c.Pass.TypeID, c.Now); err != nil {
			return err
		}
	}
	var modified int64
	err = tx.QueryRowContext(ctx, `UPDATE passes SET personal_state = ?1, personal_info = ?2
		WHERE ref = ?3 AND personal_state = 'claimed' AND personal_fence = ?4 RETURNING modified`,
		state, info, c.Pass.Ref, c.Fence).Scan(&modified)
	if errors.Is(err, sql.ErrNoRows) {
		return passes.ErrPersonalized
	}
	if err != nil || !e.Used {
		return failed("end personalisation", err)
	}
	at = max(at, modified+1)
	if err := raiseModified(ctx, tx, c.Pass.TypeID, at); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `UPDATE passes SET version = version + 1, stamp = ?1, modified = ?2 WHERE ref = ?3`, stamp, at, c.Pass.Ref)
	if err != nil || !c.Push {
		return failed("write personalised pass", err)
	}
	return enqueue(ctx, tx, c.Pass, millis(c.Now))
}
