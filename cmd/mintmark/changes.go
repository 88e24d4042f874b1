package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/httpapi"
	"github.com/mintmark/mintmark/internal/config"
)

func changesCommand() *cobra.Command {
	return group("changes", "Propose and approve changes of a running service",
		changesProposeCommand(), changesListCommand(), changesShowCommand(), changesApproveCommand(), changesRejectCommand())
}

// changeFlags say which service is asked, and as whom.
type changeFlags struct {
	adminFlags
	tokenFile string
}

func (f *changeFlags) register(c *cobra.Command) {
	f.adminFlags.register(c)
	c.Flags().StringVar(&f.tokenFile, "token-file", "", "`file` with your bearer token (a JWT); - for standard input")
	_ = c.MarkFlagRequired("token-file") // it exists
}

// call asks the admin listener as whoever the token says.
func (f changeFlags) call(ctx context.Context, method, path string, body, into any) error {
	token, err := f.token()
	if err != nil {
		return exit(exitUsage, err)
	}
	var sent io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		sent = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, f.url+"/v1/changes"+path, sent)
	if err != nil {
		return exit(exitUsage, err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := adminClient.Do(req)
	if err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return answered(resp.StatusCode, answer)
	}
	return json.Unmarshal(answer, into)
}

// answered is the error that a problem says.
func answered(status int, body []byte) error {
	var p httpapi.Problem
	if json.Unmarshal(body, &p) != nil || p.Title == "" {
		return fmt.Errorf("the service answered %d", status)
	}
	detail := ""
	if p.Detail != nil {
		detail = ": " + *p.Detail
	}
	return fmt.Errorf("the service answered %d, %s%s", status, p.Title, detail)
}

func (f changeFlags) token() (string, error) {
	var b []byte
	var err error
	if f.tokenFile == "-" {
		b, err = io.ReadAll(io.LimitReader(os.Stdin, 64<<10))
	} else {
		b, err = os.ReadFile(f.tokenFile)
	}
	return strings.TrimSpace(string(b)), err
}

func changesProposeCommand() *cobra.Command {
	var f changeFlags
	var configFile string
	c := &cobra.Command{
		Use: "propose KIND [FILE]", Short: "Put a change up for somebody else's approval", Args: cobra.RangeArgs(1, 2),
		Long: "FILE holds the change's document, JSON; - is standard input. Of kind configuration the\n" +
			"document is made here, from the files that --config names: it lists each by its SHA-256,\n" +
			"so that whoever approves can compare them with what was reviewed (sha256sum).",
		RunE: func(c *cobra.Command, args []string) error {
			document, err := proposed(args, configFile)
			if err != nil {
				return err
			}
			var made httpapi.ChangeDocument
			if err := f.call(c.Context(), http.MethodPost, "", httpapi.ProposedChange{Kind: args[0], Document: document}, &made); err != nil {
				return err
			}
			return printChange(c.OutOrStdout(), made)
		},
	}
	f.register(c)
	c.Flags().StringVar(&configFile, "config", "mintmark.yaml", "configuration `file` of the running service, for kind configuration")
	return c
}

// proposed is the document that the arguments name.
func proposed(args []string, configFile string) (jsontext.Value, error) {
	switch {
	case len(args) == 2 && args[1] == "-":
		return io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	case len(args) == 2:
		b, err := os.ReadFile(args[1])
		return b, exit(exitUsage, err)
	case args[0] != configurationKind{}.Name():
		return nil, exit(exitUsage, errors.New("name the file with the document"))
	}
	cfg, err := config.Load(configFile, os.Environ())
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	files, err := takenFiles(configFile, cfg)
	if err != nil {
		return nil, exit(exitConfiguration, err)
	}
	return json.Marshal(configurationChange{files})
}

func changesListCommand() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "list", Short: "List the newest changes", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var all struct {
				Changes []httpapi.ChangeDocument `json:"changes"`
			}
			if err := f.call(c.Context(), http.MethodGet, "", nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tKIND\tSTATE\tPROPOSED BY\tAT\tEXPIRES\tDECIDED BY")
			for _, one := range all.Changes {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", one.ID, one.Kind, one.State, personText(&one.Proposer), timeText(one.Proposed), timeText(one.Expires), personText(one.Decider))
			}
			return w.Flush()
		},
	}
	f.register(c)
	return c
}

func personText(p *httpapi.PersonDocument) string {
	if p == nil {
		return "-"
	}
	return p.ISS + " " + p.Sub
}

func timeText(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func changesShowCommand() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "show ID", Short: "Show a change with its document", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var one httpapi.ChangeDocument
			if err := f.call(c.Context(), http.MethodGet, "/"+url.PathEscape(args[0]), nil, &one); err != nil {
				return err
			}
			return printChange(c.OutOrStdout(), one)
		},
	}
	f.register(c)
	return c
}

func changesApproveCommand() *cobra.Command {
	var f changeFlags
	var digest string
	c := &cobra.Command{
		Use: "approve ID --sha256 HEX", Short: "Approve a change that somebody else proposed: it is made at once", Args: cobra.ExactArgs(1),
		Long: "--sha256 is the digest of the document that you looked at, as show prints it: a change\n" +
			"that was put in the place of it is not approved by mistake.",
		RunE: func(c *cobra.Command, args []string) error {
			var one httpapi.ChangeDocument
			if err := f.call(c.Context(), http.MethodPost, "/"+url.PathEscape(args[0])+"/approve", httpapi.ApprovedDocument{SHA256: digest}, &one); err != nil {
				return err
			}
			return printChange(c.OutOrStdout(), one)
		},
	}
	f.register(c)
	c.Flags().StringVar(&digest, "sha256", "", "`digest` of the document that you looked at")
	_ = c.MarkFlagRequired("sha256") // it exists
	return c
}

func changesRejectCommand() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{
		Use: "reject ID", Short: "Say that a change shall not be made", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var one httpapi.ChangeDocument
			if err := f.call(c.Context(), http.MethodPost, "/"+url.PathEscape(args[0])+"/reject", struct{}{}, &one); err != nil {
				return err
			}
			return printChange(c.OutOrStdout(), one)
		},
	}
	f.register(c)
	return c
}

// printChange writes a change for people. Its document is as it was digested.
func printChange(out io.Writer, c httpapi.ChangeDocument) error {
	_, err := fmt.Fprintf(out, "change    %s\nkind      %s\nstate     %s\nproposed  %s by %s\nexpires   %s\ndecided   %s\nsha256    %s\ndocument  %s\n",
		c.ID, c.Kind, c.State, timeText(c.Proposed), personText(&c.Proposer), timeText(c.Expires), personText(c.Decider), c.SHA256, c.Document)
	return err
}
