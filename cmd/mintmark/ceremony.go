package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mintmark/mintmark/cmd/mintmark/internal/keycert"
	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
	"github.com/mintmark/mintmark/internal/ceremony"
	"github.com/mintmark/mintmark/signer"
)

func ceremonyCommand() *cobra.Command {
	return group("ceremony", "Make and destroy keys as two people have signed it", ceremonyRunCommand(), ceremonyVerifyCommand(), ceremonyReplayCommand())
}

// ceremonyFlags are the flags of the commands that touch a token.
type ceremonyFlags struct {
	config, out string
	prompt      bool
}

func (f *ceremonyFlags) register(c *cobra.Command) {
	configFlag(c, &f.config)
	c.Flags().StringVar(&f.out, "out", "", "`folder` to make for what comes of it; default: the ceremony's name")
	c.Flags().BoolVar(&f.prompt, "pin-prompt", false, "ask for the PIN on the terminal, in place of the member's pinFile")
}

func ceremonyRunCommand() *cobra.Command {
	var f ceremonyFlags
	var signatures []string
	var dry bool
	c := &cobra.Command{
		Use:   "run FILE --signature SIG --signature SIG",
		Short: "Carry a signed ceremony out, and write its transcript and the keyring for review",
		Long: "Each of the people that FILE names signs it with a key of their own:\n\n" +
			"  ssh-keygen -Y sign -n mintmark-ceremony -f KEY FILE\n" +
			"  openssl cms -sign -binary -in FILE -signer CERT -inkey KEY -outform DER -out FILE.p7s\n\n" +
			"--dry-run says what is wrong with it for this keyring and this token, and what would be\n" +
			"done, and needs no signatures. Labels, ids and files that exist are refused. No running\n" +
			"service is touched: its keyring is the one in use until you put the new one in place.\n\n" +
			"A running service holds its SQLite database: give the record of this another one meanwhile,\n" +
			"with MINTMARK_STORE_SQLITE=FILE.",
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			p, err := loadKeysPlan(f.config)
			if err != nil {
				return err
			}
			r := &rite{c: c, flags: f, p: p, ring: p.keyring, folder: filepath.Dir(args[0]), dry: dry, meter: meterTo(c.ErrOrStderr())}
			if err := r.read(args[0], signatures); err != nil {
				return err
			}
			return r.run(c.Context())
		},
	}
	f.register(c)
	c.Flags().StringArrayVar(&signatures, "signature", nil, "`file` with a person's signature; once for each")
	c.Flags().BoolVar(&dry, "dry-run", false, "check everything and change nothing")
	return c
}

// rite is one ceremony being carried out.
type rite struct {
	c      *cobra.Command
	flags  ceremonyFlags
	p      *plan
	ring   *hsm.Keyring // before
	folder string       // of the file
	dry    bool
	meter  *meter

	plan   *ceremony.Plan
	people []ceremony.Signed
	began  time.Time
	done   ceremony.Done
}

// read reads the file and its signatures, and says all that is wrong with them.
func (r *rite) read(path string, signatures []string) error {
	r.began = time.Now().UTC().Truncate(time.Second)
	text, err := os.ReadFile(path)
	if err != nil {
		return exit(exitUsage, err)
	}
	if r.plan, err = ceremony.Parse(text); err != nil {
		return exit(exitConfiguration, fmt.Errorf("%s: %w", path, err))
	}
	if err := r.plan.Check(r.ring, r.began); err != nil {
		return exit(exitConfiguration, fmt.Errorf("%s: %w", path, err))
	}
	var all [][]byte
	for _, file := range signatures {
		b, err := os.ReadFile(file)
		if err != nil {
			return exit(exitUsage, err)
		}
		all = append(all, b)
	}
	if r.dry && len(all) == 0 {
		return nil
	}
	if r.people, err = r.plan.Verify(all, r.began); err != nil {
		return exit(exitConfiguration, err)
	}
	return nil
}

// run opens the token and does what the plan says.
func (r *rite) run(ctx context.Context) (err error) {
	out := r.flags.out
	if out == "" {
		out = r.plan.Ceremony
	}
	if _, err := os.Lstat(out); err == nil {
		return exit(exitUsage, fmt.Errorf("%s exists; what came of a ceremony is not written over", out))
	}
	var pinFile string
	if r.flags.prompt {
		file, remove, err := promptPIN(ctx, r.c.ErrOrStderr(), r.plan.Member)
		if err != nil {
			return exit(exitUsage, err)
		}
		defer remove() // the token logs in again as its keyring changes
		pinFile = file
	}
	r.meter.step("opening the token")
	defer r.meter.clear()
	t, err := r.open(ctx, pinFile)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		err = errors.Join(err, exit(exitHSM, t.Close(closing)))
	}()
	place := ceremony.Place{Token: t, Ring: r.ring, Folder: r.folder, Now: time.Now, Say: r.say}
	r.meter.step("holding the token against the file")
	if err := r.plan.Rehearse(ctx, place); err != nil {
		return exit(exitHSM, err)
	}
	if err := r.mayDestroy(ctx); err != nil {
		return err
	}
	if r.dry {
		r.say("%s: the keyring and the token are as the file has them; nothing was changed", r.plan.Ceremony)
		return nil
	}
	return r.perform(ctx, place, t, out)
}

// perform does in the token what was rehearsed, and accounts for it in the folder out.
func (r *rite) perform(ctx context.Context, place ceremony.Place, t *hsm.Token, out string) (err error) {
	s, err := openStore(ctx, r.p.cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, exit(exitStorage, s.Close())) }()
	// The folder first: nothing is made that then has no place to be accounted for.
	if err := os.Mkdir(out, 0o700); err != nil {
		return err
	}
	log, gate := audit.New(s, time.Now), signer.New(t)
	// Then the record: keys that a crash leaves behind have their ceremony there.
	if err := log.Note(ctx, r.lifecycle("ceremony-begin", r.ring.Digest())); err != nil {
		return errors.Join(exit(exitStorage, err), os.Remove(out))
	}
	place.Request = func(ctx context.Context, q ceremony.Request) ([]byte, error) {
		subject := subjectFlags{q.CommonName, q.Organization, q.Unit, q.Country, q.Email}
		return keycert.Request(ctx, log, gate, signer.RequestFor{Key: q.Key, Subject: subject.name(), Email: q.Email, DNSNames: q.DNS})
	}
	var failed error
	r.meter.step("at work in the token")
	r.done, failed = r.plan.Run(ctx, place)
	// Also a ceremony that was interrupted is accounted for.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), accountWithin)
	defer cancel()
	return errors.Join(exit(exitHSM, failed), r.account(ctx, t, log, out, failed))
}

// accountWithin bounds the account of a ceremony, after its last key.
const accountWithin = time.Minute

// lifecycle is an entry of the log about this ceremony.
func (r *rite) lifecycle(event, keyring string) audit.Lifecycle {
	return audit.Lifecycle{Event: event, Version: version, Environment: r.p.cfg.Environment, KeyringSHA256: keyring, PlanSHA256: r.plan.Digest()}
}

// say tells what was done; while a line shows how far it is, that one makes room and goes on.
func (r *rite) say(format string, a ...any) {
	r.meter.clear()
	fmt.Fprintf(r.c.OutOrStdout(), format+"\n", a...)
	r.meter.step("at work in the token")
}

// open opens the member's token by the keyring before, with the PIN in another file than the
// member's unless that is empty.
func (r *rite) open(ctx context.Context, pinFile string) (*hsm.Token, error) {
	members, err := memberConfigs(r.p, r.ring, nil)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(members, func(m hsm.Config) bool { return m.Name == r.plan.Member })
	if i < 0 {
		return nil, exit(exitConfiguration, fmt.Errorf("no member is called %s", r.plan.Member))
	}
	if pinFile != "" {
		members[i].PINFile = pinFile
	}
	members[i].CallTimeout = max(keyWithin, members[i].CallTimeout)
	t, err := hsm.Open(ctx, members[i])
	if err != nil {
		return nil, exit(openStatus(err), err)
	}
	return t, nil
}

// account writes down what was done: signed in the token, into the folder, on record by its
// digest. Only with that the folder has the keyring that comes of it. What fails here makes
// the ceremony one that failed, whose transcript is signed if it can be: keys that were made
// or destroyed are always accounted for.
func (r *rite) account(ctx context.Context, t *hsm.Token, log *audit.Log, out string, failed error) error {
	account, err := r.plan.Account(r.people, r.ring, r.done)
	if err != nil {
		return err
	}
	account.Software, account.Began, account.Ended = version, r.began, time.Now().UTC().Truncate(time.Second)
	var trouble error
	if account.Token, trouble = t.Info(ctx); failed == nil {
		failed = trouble
	}
	if failed != nil {
		account.Failed = failed.Error()
	}
	text, unsigned := r.sign(ctx, t, &account)
	if unsigned != nil && failed == nil {
		failed, account.Failed = unsigned, unsigned.Error()
		if text, err = account.Text(); err != nil {
			return err
		}
	}
	if err := writeNew(filepath.Join(out, ceremony.TranscriptFile), []byte(text)); err != nil {
		return err
	}
	life := r.lifecycle("ceremony", account.Files[ceremony.KeyringFile])
	life.TranscriptSHA256 = hexDigest([]byte(text))
	if err := log.Note(ctx, life); err != nil {
		return exit(exitStorage, fmt.Errorf("%w; what was done stands in %s", err, filepath.Join(out, ceremony.TranscriptFile)))
	}
	if failed != nil {
		return errors.Join(exit(exitHSM, errors.Join(trouble, unsigned)),
			fmt.Errorf("the ceremony failed; what was done of it stands in %s", filepath.Join(out, ceremony.TranscriptFile)))
	}
	r.done.Files[ceremony.KeyringFile] = []byte(account.After)
	for name, b := range r.done.Files {
		if err := writeNew(filepath.Join(out, name), b); err != nil {
			return err
		}
	}
	r.say("%s is done. Review %s and put it in place with the certificates beside it;\nkeep %s (SHA-256 %s).", r.plan.Ceremony,
		filepath.Join(out, ceremony.KeyringFile), filepath.Join(out, ceremony.TranscriptFile), life.TranscriptSHA256)
	return nil
}

// writeNew writes a file that is not there yet, and onto the disk.
func writeNew(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// sign gives the transcript as a note; unsigned, with the error, where no key can sign it.
func (r *rite) sign(ctx context.Context, t *hsm.Token, account *ceremony.Transcript) (string, error) {
	var pub any
	key, err := t.Active(hsm.AuditReport)
	if err == nil {
		pub, err = t.Public(key.Name)
	}
	if err == nil {
		account.Key, err = x509.MarshalPKIXPublicKey(pub)
	}
	text, err2 := account.Text()
	if err := errors.Join(err, err2); err != nil {
		return text, err
	}
	note, _, err := signer.New(t).SignStatement(ctx, r.p.cfg.Origin(), text)
	if err != nil {
		return text, err
	}
	return note, nil
}

// hexDigest is a SHA-256 in hex.
func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
