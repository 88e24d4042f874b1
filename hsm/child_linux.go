package hsm

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// fromParent takes the socket that the parent made. Its peer must be the parent, under the
// same user: whoever is at the other end of it can have everything signed.
func fromParent() (net.Conn, error) {
	var kind int
	cred, err := unix.GetsockoptUcred(socketFD, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err == nil {
		kind, err = unix.GetsockoptInt(socketFD, unix.SOL_SOCKET, unix.SO_TYPE)
	}
	if err != nil || kind != unix.SOCK_STREAM {
		return nil, orphaned("no socket was given")
	}
	if int(cred.Pid) != os.Getppid() || int(cred.Uid) != os.Geteuid() {
		return nil, orphaned("the socket is not the parent's")
	}
	f := socketFile()
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}

// startMember starts this binary again as a member's process, and gives our end of the
// socket to it. ended is closed when the process has ended; cmd.ProcessState is there then.
//
// The child dies with this process, by the kernel's hand, also where it no longer reads. The
// kernel takes the thread that made a child for its parent, so that this one is kept.
func startMember(member string) (conn net.Conn, cmd *exec.Cmd, ended <-chan struct{}, err error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, nil, err
	}
	defer func() { _ = theirs.Close() }()
	// The binary that runs, also if another one has taken its place on disk.
	cmd = exec.Command("/proc/self/exe", MemberCommand, member)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // what a library prints
	if os.Getenv("GOTRACEBACK") == "" {
		cmd.Stderr = &crashWord{to: os.Stderr}
		cmd.WaitDelay = goneWithin / 5 // if a library has started what holds it open
	}
	cmd.ExtraFiles = []*os.File{theirs} // socketFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state says it
			close(done)
		}
	}()
	if err := <-started; err != nil {
		_ = ours.Close()
		return nil, nil, nil, err
	}
	return ours, cmd, done, nil
}

// socketPair makes a socket that has no name, so that nobody else can connect to it.
func socketPair() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	f := os.NewFile(uintptr(fds[0]), "member")
	defer func() { _ = f.Close() }()
	theirs = os.NewFile(uintptr(fds[1]), "parent")
	if ours, err = net.FileConn(f); err != nil {
		return nil, nil, closeAnd(theirs, err)
	}
	return ours, theirs, nil
}

func closeAnd(f *os.File, err error) error {
	_ = f.Close()
	return err
}
