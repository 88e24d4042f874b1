//go:build linux

package integration

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A disk that is full gives 503 and no output, and when there is room again the service
// goes on, without a restart.
func TestFullDiskPasses(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("mintmark-test", disk, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("a disk that can be filled needs mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	for name, tc := range map[string]struct{ env string }{
		"before it is full":  {"MINTMARK_AUDIT_MIN_FREE=4"},
		"when it is already": {"MINTMARK_AUDIT_MIN_FREE=1"}, // looked at once a second: the disk is full before
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(disk, "store")
			if err := os.MkdirAll(data, 0o700); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = os.RemoveAll(data) }()
			s := start(t, dir, nil, []string{"MINTMARK_STORE_SQLITE=" + filepath.Join(data, "mintmark.db"), tc.env})
			s.mustSeal(2)
			ballast := filepath.Join(disk, "ballast")
			fill(t, ballast)
			s.answers(http.StatusServiceUnavailable)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
			s.answers(http.StatusOK)
			s.stop()
			if out, ok := auditVerify(t, filepath.Join(data, "mintmark.db"), "--key", filepath.Join(dir, "keys", "audit-checkpoint.pem")); !ok {
				t.Errorf("%s", out)
			}
		})
	}
}

// answers posts until it is answered with a status.
func (s *server) answers(status int) {
	s.t.Helper()
	eventually(s.t, patience, func() error {
		a := s.mustPost(s.newRequest())
		if a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
			s.t.Error("503 without Retry-After")
		}
		if a.status != http.StatusOK && a.status != http.StatusServiceUnavailable {
			s.t.Errorf("answered %d: %s", a.status, a.body)
		}
		return a.want(status)
	})
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for size := 1 << 20; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}
