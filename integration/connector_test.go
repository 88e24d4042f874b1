package integration

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mintmark/mintmark/integration/actors"
)

// kill -9 while passcodes are sent over a line that loses answers: what a caller was told is
// on its way arrives, and nothing is acted on twice.
func TestKilledWhileItTellsTheNetwork(t *testing.T) {
	dir := t.TempDir()
	dev := start(t, dir, nil, nil)
	dev.stop()
	asker, err := x509.ParsePKIXPublicKey(dev.pem(filepath.Join(dir, "keys", "connector-jws.pem")))
	if err != nil {
		t.Fatal(err)
	}
	r := actors.NewNetwork(t, asker, true)
	s := &site{t: t, dir: dir}
	s.write("network-ca.pem", string(r.CA))
	s.write("network.pem", r.PublicPEM())
	config := readFile(t, filepath.Join(dir, "mintmark.yaml"))
	var lines []string
	for line := range strings.Lines(config) {
		if strings.HasPrefix(line, "  connector:") {
			line = "  connector: " + r.Config("network.pem") + "\n"
		}
		lines = append(lines, line)
	}
	s.write("mintmark.yaml", strings.Join(lines, "")+"outbound: {caFile: network-ca.pem, allowPrivate: [127.0.0.0/8]}\n")
	told := map[string]string{} // the ids of passcodes that are on their way, by channelId
	token := dev.issuer().token(nil)
	began := time.Now()
	for round := range 3 {
		srv := s.serve()
		for i := range 4 {
			channel := fmt.Sprintf("channel-%d-%d", round, i)
			a := srv.send("/v1/one-time-passcodes", token, request{"externalCardId": dev.info.Cards[i%2].ExternalCardID, "channelId": channel})
			var sent struct{ PasscodeID string }
			if a.status == http.StatusTooManyRequests {
				continue
			}
			a.into(t, &sent)
			told[channel] = sent.PasscodeID
		}
		<-time.After(rand.N(700 * time.Millisecond)) // at a random point of the delivery
		srv.kill()
	}
	r.Mend()
	srv := s.serve()
	// A notice is tried again after half as long again, at most, as it was tried for.
	eventually(t, patience+2*time.Since(began), func() error {
		if n := srv.count(`SELECT COUNT(*) FROM network_notices`); n != 0 {
			return fmt.Errorf("%d notices wait", n)
		}
		return nil
	})
	seen := r.Acted()
	for channel := range told {
		if seen[channel] != 1 {
			t.Errorf("what was sent to %s was acted on %d times", channel, seen[channel])
		}
	}
	for channel, n := range seen {
		if n != 1 {
			t.Errorf("what was sent to %s was acted on %d times", channel, n)
		}
	}
	if len(told) < 8 {
		t.Errorf("only %d passcodes were sent", len(told))
	}
	// A passcode that was drawn by a process that is dead is verified by this one: the fifth,
	// and last of the hour, of the second card.
	const last = "channel-2-1"
	var got struct{ Verified bool }
	srv.send("/v1/one-time-passcodes/"+told[last]+"/verifications", token, request{"passcode": r.Code(last)}).into(t, &got)
	if !got.Verified {
		t.Errorf("the passcode of %s does not hold", last)
	}
}
