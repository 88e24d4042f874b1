package audit

import (
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Prove makes the proof that an entry is in the log, in the form of
// https://c2sp.org/tlog-proof: index, inclusion proof and the first checkpoint that
// covers it. Its extra data are the leaf's data, of which the proof is.
func Prove(ctx context.Context, s Source, seq uint64) (string, error) {
	rows, err := s.Rows(ctx, seq, 1)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 || rows[0].Seq != seq {
		return "", fmt.Errorf("the log has no entry %d", seq)
	}
	covering, err := s.Checkpoints(ctx, seq+1, 1)
	if err != nil {
		return "", err
	}
	if len(covering) == 0 {
		return "", fmt.Errorf("no checkpoint covers entry %d yet", seq)
	}
	c := covering[0]
	p, err := tlog.ProveRecord(int64(c.Size), int64(seq), HashReader(ctx, s))
	if err != nil {
		return "", err
	}
	if err := tlog.CheckRecord(p, int64(c.Size), c.Root, int64(seq), rows[0].LeafHash()); err != nil {
		return "", fmt.Errorf("entry %d is not in the tree of checkpoint %d; run mintmark audit verify", seq, c.Size)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "c2sp.org/tlog-proof@v1\nextra %s\nindex %d\n", base64.StdEncoding.EncodeToString(rows[0].Leaf()), seq)
	for _, h := range p {
		fmt.Fprintln(&b, h)
	}
	fmt.Fprintf(&b, "\n%s", c.Note)
	return b.String(), nil
}
