package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/devdir"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/passes"
)

func devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use: "dev", Short: "Run everything for development on this machine", Args: cobra.NoArgs,
		Long: "Makes a SoftHSM token, keys, a simulated Apple chain, a client and demo cards in a\n" +
			"directory, and serves on loopback. A second start finds them there. Not for production.",
		RunE: func(c *cobra.Command, _ []string) error { return runDev(c, o) },
	}
	dataFlag(c, &o.data)
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` of the API")
	c.Flags().StringVar(&o.admin, "admin-listen", "127.0.0.1:9090", "`address` of health and metrics")
	c.Flags().StringVar(&o.module, "module", "", "PKCS#11 `library` with a SoftHSM behind it; default: the SoftHSM found")
	c.AddCommand(devTokenCommand())
	return c
}

type devOptions struct{ data, listen, admin, module string }

// dataFlag is the flag that names development mode's directory.
func dataFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "data", ".mintmark", "development `directory`")
}

func runDev(c *cobra.Command, o devOptions) (err error) {
	ctx, out := c.Context(), c.OutOrStdout()
	meter := meterTo(c.ErrOrStderr())
	meter.step("making a token, keys and certificates in %s, or finding them there", o.data)
	d, err := devdir.Make(ctx, o.data, o.module)
	meter.clear()
	switch {
	case errors.Is(err, devdir.ErrForeign), errors.Is(err, devdir.ErrRunning):
		return exit(exitUsage, err)
	case errors.As(err, new(*fs.PathError)) && !errors.Is(err, hsm.ErrModule): // of our own files: no fault of the token's
		return err
	case err != nil:
		return exit(exitHSM, err)
	}
	defer func() { err = errors.Join(err, d.Release()) }()
	if err := d.WriteConfig(o.listen, o.admin); err != nil {
		return err
	}
	p, err := loadPlan(d.Config())
	if err != nil {
		return err
	}
	var passService *passes.Service
	prepare := func(s *service) error {
		if err := awaitToken(ctx, s.hsm); err != nil {
			return err
		}
		passService = s.passes
		return errors.Join(d.StoreCards(ctx, s.provisioning), d.WritePublicKeys(s.hsm))
	}
	ready := func(at addresses) error {
		// Once it listens: a pass says where its web service is.
		passToken, err := d.StorePass(ctx, passService)
		if err != nil {
			return err
		}
		info, err := d.Info(at.api, at.admin, passToken)
		if err != nil {
			return err
		}
		if err := info.Write(); err != nil {
			return err
		}
		greet(out, info)
		return nil
	}
	err = serve(ctx, p, prepare, ready)
	return errors.Join(err, devdir.RemoveInfo(o.data))
}

// tokenWithin is how long development mode waits for its token, on whatever machine it is: it
// has cards to store before it serves, where serve would go on without.
const tokenWithin = time.Minute

// awaitToken waits until the token is ready, or nothing but another PIN or process helps.
func awaitToken(ctx context.Context, h *hsm.HSM) error {
	enough := time.NewTimer(tokenWithin)
	defer enough.Stop()
	tick := time.NewTicker(wedgedEvery)
	defer tick.Stop()
	for {
		var down *hsm.DownError
		err := h.Ready()
		switch {
		case !errors.As(err, &down):
			return err
		case down.Status.State == hsm.Refused:
			return exit(exitRefusedPIN, err)
		case down.Status.State == hsm.Wedged:
			return exit(exitHSM, err)
		}
		select {
		case <-tick.C:
		case <-enough.C:
			return exit(exitHSM, err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// greet says where the server is and how to call each API.
func greet(out io.Writer, i devdir.Info) {
	self, err := os.Executable()
	if err != nil {
		self = "mintmark"
	}
	fmt.Fprintf(out, `
mintmark development server. NOT FOR PRODUCTION: its keys lie in %[2]s.

  API    %[1]s
  admin  %[3]s  (/healthz, /readyz, /livez, /metrics; for a browser: /console/)

Seal a card for Apple Wallet (a nonce can be used once; this makes a new one each time):

  curl -sS %[1]s/issuer/push-provisioning/signed-cards \
    -H "Authorization: Bearer $(%[4]s dev token issuer --data %[2]s)" \
    -H 'Content-Type: application/json' \
    -d '{"externalCardId":"%[5]s","certificate":"'$(cat %[6]s %[7]s | base64 | tr -d '\n')'","nonce":"'$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')'","nonceSignature":"40'$(od -An -v -N80 -tx1 /dev/urandom | tr -d ' \n')'"}'

Sign a merchant JWT; make an Apple proximity token:

  curl -sS %[1]s/v1/merchant-tokens -H "Authorization: Bearer $(%[4]s dev token issuer --data %[2]s)" \
    -H 'Content-Type: application/json' -d '{"sub":"merchant-1","usr":"cashier-1","aud":"mintmark-dev","mbn":"Corner Shop","mcc":"5411","x-tid":"00000001"}'
  curl -sS -X POST %[1]s/apple/proximity-token -H "Authorization: Bearer $(%[4]s dev token merchant --data %[2]s)"

Look at the demo pass as a phone does; change it (devices would be told):

  curl -sS %[1]s/api/%[8]s/passes/apple/v1/passes/%[9]s/%[10]s -H "Authorization: ApplePass %[11]s" -o demo.pkpass
  curl -sS -X PUT %[1]s/api/%[8]s/passes/%[9]s/%[10]s -H "Authorization: Bearer $(%[4]s dev token issuer --data %[2]s)" \
    -H 'Content-Type: application/json' -d '{"pass":{"storeCard":{"primaryFields":[{"key":"balance","label":"BALANCE","value":50,"currencyCode":"EUR"}]}}}'

The whole journey, checked: %[4]s demo --data %[2]s

`, i.BaseURL, i.DataDir, i.AdminURL, self, i.Cards[0].ExternalCardID, i.Apple.LeafCert, i.Apple.SubCert,
		i.Passes.Tenant, i.Passes.PassTypeIdentifier, i.Passes.SerialNumber, i.Passes.AuthenticationToken)
}

func devTokenCommand() *cobra.Command {
	var data string
	c := &cobra.Command{
		Use: "token issuer|merchant", Short: "Print a fresh bearer token of a development client",
		ValidArgs: []string{"issuer", "merchant"}, Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(c *cobra.Command, args []string) error {
			info, err := devdir.ReadInfo(data)
			if err != nil {
				return err
			}
			sign := info.Clients.Issuer.Sign
			if args[0] == "merchant" {
				sign = info.Clients.Merchant.Sign
			}
			token, err := sign(time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), token)
			return err
		},
	}
	dataFlag(c, &data)
	return c
}

// tavKeyFile is where development mode writes the key that verifies activation data.
func tavKeyFile(i devdir.Info) string { return devdir.PublicKey(i.DataDir, hsm.TAVSigning) }
