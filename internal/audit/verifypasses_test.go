package audit_test

import (
	"context"
	"strings"
	"testing"

	"github.com/mintmark/mintmark/internal/passes"
	"github.com/mintmark/mintmark/internal/record"
)

// operate records an operation on passes with its change.
func (s *scene) operate(op record.Operation, refs map[string]string, change record.Change) {
	s.Helper()
	ticket, err := s.log.Open(record.Intent{Operation: op, Tenant: "shop", Refs: refs})
	if err == nil {
		_, err = s.log.Conclude(context.Background(), ticket, record.Done(), change)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// Passes, their types and files are held against the entries: by version, so that a row that
// was changed or put back beside the log is found, and not only one that came from nowhere.
func TestPassRowsAreHeldAgainstTheirEntries(t *testing.T) {
	const pan = "5105105105105100" // a serial number that the record withholds
	lived := func(t *testing.T) *scene {
		s := newScene(t)
		id := passes.TypeID{Tenant: "shop", Type: "pass.a"}
		for i, serial := range []string{"1", "2", pan} {
			row := passes.PassRow{ID: passes.ID{TypeID: id, Serial: serial}, Ref: int64(i), Document: []byte(`{}`), Token: "t"}
			refs := map[string]string{"passType": "pass.a", "serial": passes.Reference(serial)}
			s.operate(record.PutPass, refs, passes.PassPut{Row: &row, Now: s.clock.Now()})
			s.operate(record.PutPass, refs, passes.PassPut{Row: &row, Now: s.clock.Now()})
		}
		s.operate(record.PutPassType, map[string]string{"passType": "pass.a"}, passes.TypePut{Row: &passes.TypeRow{TypeID: id}, Now: s.clock.Now()})
		s.operate(record.PutPassAsset, map[string]string{"sha256": "aa"}, passes.AssetPut{Tenant: "shop", SHA256: "aa", Content: []byte("x"), Now: s.clock.Now()})
		s.step()
		return s
	}
	for name, tc := range map[string]struct {
		tamper string
		seq    uint64
		what   string // empty: no fault
	}{
		"whole":               {"UPDATE passes SET document = '{}'", 0, ""},
		"a pass put back":     {"UPDATE passes SET version = 1 WHERE serial = '1'", 1, "version 1 of what 2 entries changed"},
		"a pass removed":      {"DELETE FROM passes WHERE serial = '2'", 3, "version 0 of what 2 entries changed"},
		"a withheld one gone": {"DELETE FROM passes WHERE serial = '" + pan + "'", 5, "version 0 of what 2 entries changed"},
		"a pass changed":      {"UPDATE passes SET version = 3 WHERE serial = '1'", 8, "pass pass.a/1 of tenant shop is in the database in version 3, and 2 entries"},
		"a withheld changed":  {"UPDATE passes SET version = 3 WHERE serial = '" + pan + "'", 8, "pass pass.a/withheld of tenant shop is in the database in version 3"},
		"a pass of nowhere":   {"INSERT INTO passes SELECT 99, tenant, type, '3', document, token, files, voided, 1, stamp, modified, personal_state, personal_fence, personal_until, personal_info FROM passes WHERE serial = '1'", 8, "pass pass.a/3 of tenant shop is in the database in version 1, and 0 entries"},
		"a type put back":     {"UPDATE pass_types SET revision = 0", 6, "version 0 of what 1 entries changed"},
		"a type of nowhere":   {"INSERT INTO pass_types SELECT 'rail', type, template, files, certificate, 1, content_stamp, content_modified, stamp, last_modified FROM pass_types", 8, "pass type pass.a of tenant rail"},
		"a file of nowhere":   {"INSERT INTO pass_assets VALUES ('rail', 'aa', x'00', 0)", 8, "file of passes aa of tenant rail"},
		"a file collected":    {"DELETE FROM pass_assets", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := lived(t)
			s.beside(tc.tamper)
			report := s.verify(nil)
			if tc.what == "" {
				if len(report.Faults) != 0 {
					t.Errorf("faults: %v", report.Faults)
				}
				return
			}
			if len(report.Faults) != 1 || report.Faults[0].Seq != tc.seq || !strings.Contains(report.Faults[0].What, tc.what) {
				t.Errorf("faults %v, want entry %d: %s", report.Faults, tc.seq, tc.what)
			}
		})
	}
}
