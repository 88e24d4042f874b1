package main

import (
	"errors"
	"os"
	"strings"
	"testing"
)

// Root leaves nothing among the files of a service that runs as another user.
func TestRootWritesNotAmongTheFilesOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root may be refused")
	}
	folder := t.TempDir()
	if err := asItsUser(folder); err != nil {
		t.Errorf("in a folder of its own: %v", err)
	}
	if err := asItsUser(folder + "/none"); err != nil {
		t.Errorf("in a folder that is not there: %v", err)
	}
	const another = 65533
	if err := os.Chown(folder, another, another); err != nil {
		t.Fatal(err)
	}
	err := asItsUser(folder)
	if !errors.Is(err, errNotItsUser) || !strings.Contains(err.Error(), folder) {
		t.Errorf("in a folder of another user: %v", err)
	}
	if !strings.Contains(adviceOn(err), "runuser") {
		t.Errorf("the advice is %q", adviceOn(err))
	}
}
