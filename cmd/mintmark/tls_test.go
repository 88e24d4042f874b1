package main

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A file that changes while it is read is read again, and one that did not is not.
func TestCertificateThatChangesWhileItIsReadIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server.crt")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	during := func() {}
	c := &certificate{name: "api", log: slog.New(slog.DiscardHandler)}
	c.load = func() (*tls.Certificate, []string, error) {
		during()
		return &tls.Certificate{}, []string{path}, nil
	}
	changed := func() bool { return !slices.EqualFunc(c.seen, c.stat(), sameFile) }
	if err := c.reload(); err != nil || changed() {
		t.Errorf("read once: changed %t, %v", changed(), err)
	}
	during = func() { write("the second") }
	if err := c.reload(); err != nil || !changed() {
		t.Errorf("written while it was read: changed %t, %v", changed(), err)
	}
	during = func() {}
	if err := c.reload(); err != nil || changed() {
		t.Errorf("read again: changed %t, %v", changed(), err)
	}
}
