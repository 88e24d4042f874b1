package softhsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// configEnv names SoftHSM's configuration file, read in C_Initialize.
const configEnv = "SOFTHSM2_CONF"

// childTimeout bounds softhsm2-util, which takes some 50 ms. It only matters if a
// version waits for input that we do not give.
const childTimeout = 30 * time.Second

// run runs softhsm2-util as a child with this configuration and returns what it
// printed. A child has the module's state to itself: this process may use the
// module, with another configuration, at the same time.
func run(stdin *os.File, module, conf string, args ...string) (string, error) {
	tool, err := findTool()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), childTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, tool, append(args, "--module", module)...)
	// The tool's output is parsed: keep it untranslated.
	cmd.Env = append(os.Environ(), configEnv+"="+conf, "LC_ALL=C")
	cmd.Stdin = stdin
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("softhsm2-util %s: %w: %s", args[0], errors.Join(err, ctx.Err()), complaints(out.String()))
	}
	return out.String(), nil
}

// complaints returns the lines of the tool's output that say what went wrong, on
// one line; all of it if none is marked.
func complaints(out string) string {
	var found []string
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "ERROR: ") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	if found == nil {
		return strings.Join(strings.Fields(out), " ")
	}
	return strings.Join(found, "; ")
}

// initToken initialises a token in the first free slot of a configuration.
//
// The PINs do not go on the command line, where ps shows them. Without --pin and
// --so-pin the tool asks for each of them twice, and only on a terminal, so it gets
// one with the answers typed ahead.
func initToken(module, conf, label, soPIN, pin string) error {
	keyboard, terminal, err := openTerminal()
	if err != nil {
		return fmt.Errorf("pseudo-terminal for softhsm2-util: %w", err)
	}
	defer func() { _ = keyboard.Close() }()
	defer func() { _ = terminal.Close() }()
	answers := strings.Join([]string{soPIN, soPIN, pin, pin, ""}, "\n")
	if _, err := keyboard.WriteString(answers); err != nil {
		return fmt.Errorf("pseudo-terminal for softhsm2-util: %w", err)
	}
	_, err = run(terminal, module, conf, "--init-token", "--free", "--label", label)
	return err
}

// slotToken is an initialised token as the module shows it.
type slotToken struct {
	label, serial string
}

// listTokens asks the module for its initialised tokens. A token without a user
// PIN is an error: this package never leaves one, so somebody else did.
func listTokens(module, conf string) ([]slotToken, error) {
	out, err := run(nil, module, conf, "--show-slots")
	if err != nil {
		return nil, err
	}
	return parseSlots(out)
}

// parseSlots reads the output of softhsm2-util --show-slots: for each slot a line
// "Slot N" and, indented, "Name: value" lines. SoftHSM always shows one more slot,
// whose token is not initialised.
func parseSlots(out string) ([]slotToken, error) {
	var found []slotToken
	for slot := range strings.SplitSeq(out, "\nSlot ") {
		field := make(map[string]string)
		for line := range strings.Lines(slot) {
			name, value, _ := strings.Cut(line, ":")
			field[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
		if field["Initialized"] != "yes" {
			continue
		}
		if field["User PIN init."] != "yes" {
			return nil, fmt.Errorf("token %q has no user PIN: not made by this package", field["Label"])
		}
		found = append(found, slotToken{label: field["Label"], serial: field["Serial number"]})
	}
	return found, nil
}
