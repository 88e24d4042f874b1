//go:build !linux

package secret

import "os"

// lentToUs is for what systemd lends, which is not here.
func lentToUs(*os.File, os.FileInfo) bool { return false }
