package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// untilInterrupted gives the context of a command, which the first SIGINT or SIGTERM ends: then
// the command stops in its own time, serve after the answers under way. stop lets go of the
// signals.
//
// A SIGINT after that ends the process at once: somebody at a terminal does not want to wait, for
// answers or for a call into a PKCS#11 module, which nothing can cancel. It leaves what kill -9
// leaves, and so releases nothing that is not on record. A further SIGTERM does nothing more:
// supervisors have SIGKILL for who is late, and timeout(1) sends SIGTERM twice.
func untilInterrupted() (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt)
		<-again
		// Whoever does not read what it says does not keep it.
		time.AfterFunc(time.Second, func() { os.Exit(exitInterrupted) })
		fmt.Fprintln(os.Stderr, "\nmintmark: interrupted again, and ended at once; what was under way is left as it was")
		os.Exit(exitInterrupted)
	}()
	return ctx, stop
}
