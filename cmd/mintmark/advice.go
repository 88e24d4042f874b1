package main

import (
	"errors"
	"io/fs"
	"syscall"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/config"
	"github.com/mintmark/mintmark/internal/secret"
	"github.com/mintmark/mintmark/internal/store"
	"github.com/mintmark/mintmark/softhsm"
)

// advice is what to do about each trouble that a newcomer or an operator meets at a start.
// The errors say what happened, where it happened; what to do stands here, once, for every
// command and for doctor.
var advice = []struct {
	trouble error
	do      string
}{
	{softhsm.ErrNotInstalled, "make run installs SoftHSM, as does tools/ensure.sh softhsm; SOFTHSM2_MODULE, where it is set, must name libsofthsm2.so."},
	{hsm.ErrLoginRefused, "Correct the PIN file before anything tries again: most tokens lock after a few wrong PINs."},
	{secret.ErrPINFile, "Make the file hold the PIN alone, with mode 0400 or 0600."},
	{hsm.ErrTokenNotFound, "Compare tokenLabel and tokenSerial with what the module shows: pkcs11-tool --module FILE -L."},
	{hsm.ErrModule, "Name the vendor's PKCS#11 library, for this machine's architecture, as module of the member in hsm.members (dev and bench: --module)."},
	{syscall.EADDRINUSE, "Another program listens there. Stop it, or choose other addresses: api.listen and admin.listen of the configuration; --listen and --admin-listen of mintmark dev."},
	{store.ErrTaken, "Another mintmark writes there. Stop it first, or name another database in store; on PostgreSQL another log, as audit.replica, will do."},
	{store.ErrStamp, "A database keeps its environment for good. Name another one in store, or correct environment."},
	{store.ErrOlder, "After a backup run mintmark migrate up: docs/upgrade.md."},
	{store.ErrNewer, "Run a release that knows its steps; mintmark migrate status lists them."},
	{store.ErrCopying, "To end it, run mintmark store copy again."},
	{errNotItsUser, "Run it as that user: mintmark-shell mintmark …, where the Debian package is (docs/deploy.md), else runuser -u USER -- mintmark …."},
	{hsm.ErrNoKeyring, "Name the file as keyring. A new one holds a line, such as environment: production; mintmark keys generate --purpose PURPOSE --name NAME --write makes a key and lists it there."},
	{config.ErrAbsent, "Name the file with --config. mintmark dev writes one that works to begin with; docs/configuration.md has every field."},
}

// adviceOn is what to do about an error; empty where the error says it itself, or nothing can
// be said.
func adviceOn(err error) string {
	for _, a := range advice {
		if errors.Is(err, a.trouble) {
			return a.do
		}
	}
	var key *hsm.KeyError
	var down *hsm.DownError
	switch {
	case errors.As(err, &down) && down.Status.State == hsm.Refused: // which has the cause as text
		return adviceOn(hsm.ErrLoginRefused)
	case errors.As(err, &key) && key.Problem == hsm.KeyNotListed:
		return "mintmark keys list shows what there is; mintmark keys generate --purpose PURPOSE --name NAME --write makes a key and lists it."
	case errors.As(err, &key):
		return keyRemedy(key.Problem)
	case errors.Is(err, fs.ErrPermission):
		return "Run it as the user that the file belongs to, or give that user the right to it."
	}
	return ""
}
