package faultmodule_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/mintmark/mintmark/integration/faultmodule"
	"github.com/mintmark/mintmark/softhsm"
)

// childEnv makes the test binary the server of TestControlsAnotherProcess.
const childEnv = "FAULTMODULE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		serve(path)
		return
	}
	os.Exit(m.Run())
}

// serve answers each line on stdin with C_GetInfo's error.
func serve(path string) {
	module := pkcs11.New(path)
	fmt.Println(module.Initialize())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		_, err := module.GetInfo()
		fmt.Println(err)
	}
	fmt.Println(module.Finalize())
}

func TestControlsAnotherProcess(t *testing.T) {
	token := softhsm.New(t)
	configured := faultmodule.New(t, token.Module)
	for _, tc := range []struct {
		name, path string
		env        []string
	}{
		{"settings beside the library", configured.Path, nil},
		{"settings in the environment", faultmodule.Build(t), configured.Env()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			configured.Reset()
			child := exec.Command(os.Args[0])
			child.Env = append(append(os.Environ(), tc.env...), childEnv+"="+tc.path)
			child.Stderr = os.Stderr
			in, err := child.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			out := bufio.NewScanner(stdout)
			ask := func() {
				if _, err := io.WriteString(in, "\n"); err != nil {
					t.Fatal(err)
				}
			}
			answer := func(want string) {
				t.Helper()
				if !out.Scan() || !strings.Contains(out.Text(), want) {
					t.Errorf("the child says %q, want %s", out.Text(), want)
				}
			}
			answer("<nil>")
			ask()
			answer("<nil>")

			configured.Inject(faultmodule.Rule{Function: "C_GetInfo", RV: pkcs11.CKR_DEVICE_ERROR})
			ask()
			answer("CKR_DEVICE_ERROR")

			hang := configured.Hang("C_GetInfo", 1)
			ask()
			hang.Await(1)
			hang.Clear()
			answer("<nil>")

			configured.Uninitialize()
			ask()
			answer("CKR_CRYPTOKI_NOT_INITIALIZED")
			in.Close()
			answer("CKR_CRYPTOKI_NOT_INITIALIZED")
			if err := child.Wait(); err != nil {
				t.Error(err)
			}
			if got := configured.Counts()["C_GetInfo"]; got != 4 {
				t.Errorf("%d calls of C_GetInfo, want 4", got)
			}
		})
	}
}
