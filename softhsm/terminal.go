package softhsm

/*
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

// mm_terminal opens a pseudo-terminal: keyboard is the side that types, terminal
// the side that a program reads. Returns 0 or errno.
static int mm_terminal(int *keyboard, int *terminal) {
	struct termios tio;
	const char *name;
	int k, t = -1, err;

	// O_NOCTTY: neither side becomes the controlling terminal of a daemon.
	if ((k = posix_openpt(O_RDWR | O_NOCTTY)) < 0)
		return errno;
	fcntl(k, F_SETFD, FD_CLOEXEC);
	// ptsname has one buffer per process: the Go caller holds a lock.
	if (grantpt(k) < 0 || unlockpt(k) < 0 || (name = ptsname(k)) == NULL)
		goto fail;
	if ((t = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
		goto fail;
	if (tcgetattr(t, &tio) < 0)
		goto fail;
	// Nobody reads what the terminal would echo. Without line mode what is typed
	// ahead is ready to be read as it stands, whatever modes the program sets.
	tio.c_lflag &= ~(tcflag_t)(ECHO | ICANON);
	if (tcsetattr(t, TCSANOW, &tio) < 0)
		goto fail;
	*keyboard = k;
	*terminal = t;
	return 0;
fail:
	err = errno;
	if (t >= 0)
		close(t);
	close(k);
	return err;
}
*/
import "C"

import (
	"os"
	"sync"
	"syscall"
)

// terminalMu serialises mm_terminal, because ptsname is not safe to call twice at
// the same time. (ptsname_r is, but macOS got it late.)
var terminalMu sync.Mutex

// openTerminal opens a pseudo-terminal without echo. The C library does it because
// every system has its own ioctls for the purpose, and a process that loads a
// PKCS#11 module has cgo anyway.
func openTerminal() (keyboard, terminal *os.File, err error) {
	terminalMu.Lock()
	defer terminalMu.Unlock()
	var k, t C.int
	if errno := C.mm_terminal(&k, &t); errno != 0 {
		return nil, nil, syscall.Errno(errno)
	}
	return os.NewFile(uintptr(k), "pty keyboard"), os.NewFile(uintptr(t), "pty terminal"), nil
}
