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
//	mintmark migrate up|status           the database's schema
//	mintmark store copy                  a SQLite database into PostgreSQL
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
// 6 refused PIN (a command that cannot go on without the token; serve stays up, unready),
// 130 interrupted (SIGINT) while it was stopping, and ended at once.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
)

//go:generate go test -count=1 -run ^TestGeneratedPagesAreCurrent$ . -update

// The exit statuses.
const (
	exitFailure       = 1
	exitUsage         = 2
	exitConfiguration = 3
	exitHSM           = 4
	exitStorage       = 5
	exitRefusedPIN    = 6
	exitInterrupted   = 130 // 128 + SIGINT, as shells say it
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
	ctx, stop := untilInterrupted()
	defer stop()
	err := newCommand().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "mintmark:", err)
	if do := adviceOn(err); do != "" {
		fmt.Fprintln(os.Stderr, "         ", do)
	}
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
		Long: "mintmark stands beside an HSM and is the only process that logs in to it: what an issuer\n" +
			"must sign or seal goes through it, and no long-lived key is ever outside the token.",
		// Without a command: what there is, and still no success, which a script would go on after.
		RunE: func(c *cobra.Command, _ []string) error {
			c.SetOut(c.ErrOrStderr())
			return exit(exitUsage, errors.Join(c.Help(), errNoCommand))
		},
		Args: cobra.NoArgs,
	}
	root.AddCommand(serveCommand(), devCommand(), demoCommand(), doctorCommand(), keysCommand(), ceremonyCommand(), auditCommand(), changesCommand(), migrateCommand(), storeCommand(), configCommand(), clientsCommand(), cardsCommand(), passCommand(), inspectCommand(), benchCommand(), probeCommand(), versionCommand(), memberCommand())
	arrange(root)
	asUsageErrors(root)
	return root
}

// errNoCommand ends mintmark by itself, after its help.
var errNoCommand = errors.New("name a command")

// shelves are the commands as the help shows them: by what somebody wants to do.
var shelves = []struct {
	title string
	names []string
}{
	{"To try it:", []string{"dev", "demo", "inspect"}},
	{"To run it:", []string{"config", "doctor", "serve", "clients", "cards", "changes", "migrate", "store", "probe"}},
	{"Keys and the record:", []string{"keys", "ceremony", "audit"}},
	{"By themselves:", []string{"pass", "bench", "version", "completion", "help"}},
}

// arrange puts the commands on their shelves, and says under them what to do first.
func arrange(root *cobra.Command) {
	for _, s := range shelves {
		root.AddGroup(&cobra.Group{ID: s.title, Title: s.title})
		for _, c := range root.Commands() {
			if slices.Contains(s.names, c.Name()) {
				c.GroupID = s.title
			}
		}
		if slices.Contains(s.names, "help") {
			root.SetHelpCommandGroupID(s.title)
			root.SetCompletionCommandGroupID(s.title)
		}
	}
	usage := root.UsageTemplate()
	root.SetUsageTemplate(usage + `{{if not .HasParent}}
First, on a machine of your own:  mintmark dev    and in a second terminal:  mintmark demo
{{end}}`)
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
