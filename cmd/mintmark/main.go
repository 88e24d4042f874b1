// Command mintmark is a hardware-backed crypto service for card and pass issuers.
//
//	mintmark dev                         everything for development, on this machine
//	mintmark serve --config FILE         the service
//	mintmark demo                        the client's journey against a running dev
//	mintmark doctor --config FILE        what the token is, can do, and lacks; --conformance
//	                                     tries everything with disposable keys
//	mintmark keys generate|adopt|list|show|certify|csr|import-certificate|activate|retire|destroy
//	                                     keys on the token, and their life
//	mintmark ceremony run|verify|replay  keys made and destroyed by two people, from one signed file
//	mintmark audit verify|export|prove|search|tail  the audit log
//	mintmark audit report|report verify  the signed report for auditors
//	mintmark changes propose|list|show|approve|reject
//	                                     changes that two people make
//	mintmark clients check TOKEN|CERT    how a caller is decided, offline
//	mintmark cards import|rekey          cards in bulk, through a running service
//	mintmark inspect FILE                what is wrong with an app's log or request
//	mintmark pass new|validate|build|sign|verify|inspect
//	                                     Wallet passes, from folders to signed files
//	mintmark config check --config FILE  all that is wrong with a configuration
//	mintmark bench --module FILE …       what a token does, raw and through the gate
//	mintmark probe livez|readyz          whether the service on this host is well
//	mintmark version
//
// Exit status: 0 well, 1 failure, 2 usage, 3 configuration, 4 HSM, 5 storage,
// 6 refused PIN (a command that cannot go on without the token; serve stays up, unready).
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// The exit statuses.
const (
	exitFailure       = 1
	exitUsage         = 2
	exitConfiguration = 3
	exitHSM           = 4
	exitStorage       = 5
	exitRefusedPIN    = 6
)

// exitError is an error that decides the exit status.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exit gives err the exit status; nil stays nil.
func exit(status int, err error) error {
	if err == nil {
		return nil
	}
	return &exitError{status: status, err: err}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "mintmark:", err)
	var status *exitError
	if errors.As(err, &status) {
		os.Exit(status.status)
	}
	os.Exit(exitFailure)
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "mintmark",
		Short:         "A hardware-backed crypto service for card and pass issuers",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Without a command, a usage error rather than success.
		RunE: func(*cobra.Command, []string) error {
			return exit(exitUsage, errors.New("name a command; mintmark --help lists them"))
		},
		Args: cobra.NoArgs,
	}
	root.AddCommand(serveCommand(), devCommand(), demoCommand(), doctorCommand(), keysCommand(), ceremonyCommand(), auditCommand(), changesCommand(), configCommand(), clientsCommand(), cardsCommand(), passCommand(), inspectCommand(), benchCommand(), probeCommand(), versionCommand(), memberCommand())
	asUsageErrors(root)
	return root
}

// asUsageErrors gives wrong flags and arguments the exit status of usage errors.
func asUsageErrors(c *cobra.Command) {
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exit(exitUsage, err) })
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, a []string) error { return exit(exitUsage, args(c, a)) }
	}
	for _, sub := range c.Commands() {
		asUsageErrors(sub)
	}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return exit(exitUsage, fmt.Errorf("name a command; %s --help lists them", c.CommandPath()))
		},
	}
	c.AddCommand(subs...)
	return c
}
