package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/httpapi"
)

func cardsCommand() *cobra.Command {
	return group("cards", "Bring cards in, and move them to another key, through a running service", cardsImportCommand(), cardsRekeyCommand())
}

// adminFlags say where the running service's admin listener is.
type adminFlags struct{ url string }

func (f *adminFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.url, "admin", "http://127.0.0.1:9090", "`address` of the admin listener of a running service")
}

// adminClient has time for a batch of cards.
var adminClient = &http.Client{Timeout: 2 * time.Minute}

// post sends a body to the admin listener and decodes the answer.
func (f adminFlags) post(ctx context.Context, path, mediaType string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := adminClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the service answered %d: %s", resp.StatusCode, bytes.TrimSpace(answer))
	}
	return json.Unmarshal(answer, into)
}

// The size of a batch, and how often and how long one is tried again that the service could
// not take.
const (
	importLines = 250
	importTries = 30
	importPause = 2 * time.Second
)

func cardsImportCommand() *cobra.Command {
	var f adminFlags
	var tenant string
	c := &cobra.Command{
		Use: "import --tenant TENANT FILE", Short: "Store the encrypted cards of a file (JSON Lines)", Args: cobra.ExactArgs(1),
		Long: "Each line is {\"encryptedCard\":\"…\"}: a JWE as for PUT /v1/cards, whose header says whose\n" +
			"card it is. A line is stored once however often the file is run: after an interruption,\n" +
			"of this command or of the service, run it again. Lines that are refused are listed and\n" +
			"do not hold up the others. A line is \"used before\" if a message of the same jti for the\n" +
			"same card was: this one, in an earlier run, or another.",
		RunE: func(c *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return exit(exitUsage, err)
			}
			defer func() { _ = file.Close() }()
			i := &importing{flags: f, tenant: tenant, out: c.OutOrStdout(), meter: meterTo(c.ErrOrStderr())}
			return i.run(c.Context(), file)
		},
	}
	f.register(c)
	c.Flags().StringVar(&tenant, "tenant", "", "the `tenant` that the cards belong to")
	_ = c.MarkFlagRequired("tenant") // it exists
	return c
}

// importing is one run over a file.
type importing struct {
	flags  adminFlags
	tenant string
	out    io.Writer
	meter  *meter

	line, stored, present, refused int
	began                          time.Time
}

func (i *importing) run(ctx context.Context, file io.Reader) error {
	i.began = time.Now()
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 64<<10), 64<<10)
	var batch [][]byte
	var numbers []int // of the batch's lines in the file
	for lines.Scan() {
		i.line++
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		batch, numbers = append(batch, bytes.Clone(lines.Bytes())), append(numbers, i.line)
		if len(batch) == importLines {
			if err := i.send(ctx, batch, numbers); err != nil {
				return err
			}
			batch, numbers = nil, nil
		}
	}
	if err := errors.Join(lines.Err(), i.send(ctx, batch, numbers)); err != nil {
		return err
	}
	i.meter.clear()
	took := time.Since(i.began)
	fmt.Fprintf(i.out, "%d lines in %v: %d stored, %d used before, %d refused\n", i.line, took.Round(time.Millisecond), i.stored, i.present, i.refused)
	if i.refused > 0 {
		return fmt.Errorf("%d lines were refused", i.refused)
	}
	return nil
}

// send sends a batch, and what of it the service could not take again.
func (i *importing) send(ctx context.Context, batch [][]byte, numbers []int) error {
	if len(batch) == 0 {
		return nil
	}
	var last error
	for range importTries {
		var got httpapi.ImportResults
		last = i.flags.post(ctx, "/cards/import?tenant="+url.QueryEscape(i.tenant), "application/x-ndjson", bytes.Join(batch, []byte("\n")), &got)
		if last == nil && len(got.Results) != len(batch) {
			return errors.New("the service answered for another number of lines")
		}
		if last == nil {
			if batch, numbers = i.count(batch, numbers, got.Results); len(batch) == 0 {
				i.meter.show("%d lines, %.0f a second", i.line, float64(i.line)/time.Since(i.began).Seconds())
				return nil
			}
			last = fmt.Errorf("line %d could not be stored at the moment", numbers[0])
		}
		select {
		case <-time.After(importPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("%w; run the same file again", last)
}

// count takes the results in, and gives the lines that must be sent again.
func (i *importing) count(batch [][]byte, numbers []int, results []string) (again [][]byte, at []int) {
	for n, result := range results {
		switch result {
		case httpapi.ImportStored:
			i.stored++
		case httpapi.ImportPresent:
			i.present++
		case httpapi.ImportUnavailable:
			again, at = append(again, batch[n]), append(at, numbers[n])
		default:
			i.refused++
			i.meter.clear()
			fmt.Fprintf(i.out, "line %d: %s\n", numbers[n], result)
		}
	}
	return again, at
}

func cardsRekeyCommand() *cobra.Command {
	var f adminFlags
	c := &cobra.Command{
		Use: "rekey", Short: "Move all cards to the active vault key, while the service serves", Args: cobra.NoArgs,
		Long: "Before: make the new key with --state next and have the services take it up (SIGHUP);\n" +
			"then mintmark keys activate, and SIGHUP for every instance: one that still has the\n" +
			"old keyring goes on sealing under the old key. The command passes over all cards until\n" +
			"one whole pass finds nothing to move. Only when it has ended well may the old key go.\n" +
			"Cards that do not open are listed and do not hold up the others; the command then fails.\n" +
			"An interrupted run is begun again from the start and skips what it has moved.",
		RunE: func(c *cobra.Command, _ []string) error {
			return (&rekeying{flags: f, out: c.OutOrStdout(), meter: meterTo(c.ErrOrStderr())}).run(c.Context())
		},
	}
	f.register(c)
	return c
}

// rekeying is one run of a rekey.
type rekeying struct {
	flags adminFlags
	out   io.Writer
	meter *meter

	moved int
	stuck []httpapi.CardRef // those of the last pass
}

// run passes over the cards until a whole pass moves nothing: while one runs, an
// instance that was slow to take the keyring up may store cards under the old key behind it.
func (r *rekeying) run(ctx context.Context) error {
	began := time.Now()
	for {
		found, err := r.pass(ctx)
		if err != nil {
			return fmt.Errorf("%d cards moved, then: %w", r.moved, err)
		}
		if found == 0 {
			break
		}
	}
	r.meter.clear()
	fmt.Fprintf(r.out, "%d cards moved in %v\n", r.moved, time.Since(began).Round(time.Millisecond))
	if len(r.stuck) == 0 {
		return nil
	}
	for _, card := range r.stuck {
		fmt.Fprintf(r.out, "does not open: tenant %s, id %s\n", card.Tenant, card.ID)
	}
	return fmt.Errorf("%d cards do not open and were not moved; keep the old key", len(r.stuck))
}

// pass goes over all cards once. found is how many it moved. A card that somebody else changed
// meanwhile is the next pass's, if it is still under the old key: under load there are always
// some.
func (r *rekeying) pass(ctx context.Context) (found int, err error) {
	r.stuck = nil
	var place httpapi.RekeyPlace
	for !place.Done {
		body, err := json.Marshal(httpapi.RekeyPlace{Tenant: place.Tenant, ID: place.ID})
		if err != nil {
			return found, err
		}
		place = httpapi.RekeyPlace{}
		if err := r.flags.post(ctx, "/cards/rekey", "application/json", body, &place); err != nil {
			return found, err
		}
		r.moved += place.Moved
		found += place.Moved
		r.stuck = append(r.stuck, place.Stuck...)
		r.meter.show("%d cards moved", r.moved)
	}
	return found, nil
}
