package report

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"

	"github.com/mintmark/mintmark/hsm"
	"github.com/mintmark/mintmark/internal/audit"
)

// ReadMember reads an open token that has the whole keyring. What cannot be read is in Err.
func ReadMember(ctx context.Context, t *hsm.Token, signaturesOnly bool) Member {
	m := Member{Name: t.Name(), Sessions: t.Sessions(), Proofs: map[string]string{}, Retired: map[string]string{}}
	var err error
	if m.Login, err = t.Login(ctx); err == nil {
		m.Inventory, err = t.Inventory(ctx)
	}
	if err != nil {
		m.Err = err.Error()
		return m
	}
	for _, k := range m.Inventory.Keys {
		switch {
		case k.Problem == "" && k.Algorithm.Public():
			m.Proofs[k.Name] = textOf(t.SelfTest(ctx, k.Name))
		case k.Problem == hsm.KeyRetired:
			if err, tried := useRetired(ctx, t, k.Key); tried {
				m.Retired[k.Name] = textOf(err)
			}
		}
	}
	m.Sealed = sealOnce(ctx, t, signaturesOnly) // before the attempts, which make session objects too
	m.Tried = tryAll(ctx, t, m.Inventory.Keys)
	return m
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// useRetired tries to make something new with a retired key. Keys that only agree, or find,
// go on with what was made when they were active.
func useRetired(ctx context.Context, t *hsm.Token, k hsm.Key) (err error, tried bool) {
	digest := make([]byte, sha256.Size)
	switch {
	case k.Purpose == hsm.CardTransport, k.Purpose == hsm.CardIndex:
		return nil, false
	case k.Algorithm.Public():
		_, err = t.Sign(ctx, k.Name, digest, crypto.SHA256)
	case k.Algorithm == hsm.AES256:
		iv := make([]byte, 12)
		_, _ = rand.Read(iv) // never fails (crypto/rand)
		_, err = t.EncryptGCM(ctx, k.Name, iv, nil, digest)
	case k.Algorithm == hsm.TDEA:
		_, err = t.EncryptTDEA(ctx, k.Name, digest)
	default:
		return nil, false
	}
	return err, true
}

// sealOnce seals nothing for nobody, and counts what was made and destroyed for it.
func sealOnce(ctx context.Context, t *hsm.Token, signaturesOnly bool) Ephemeral {
	before := t.Stats()
	if !signaturesOnly {
		peer, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			return Ephemeral{Err: err.Error()}
		}
		_, err = t.AgreeAndSeal(ctx, hsm.Sealing{
			Peer: peer.PublicKey(), IV: make([]byte, 12), Plaintext: []byte("mintmark audit report"),
			OtherInfo: func([]byte) []byte { return []byte("mintmark audit report") },
		})
		if err != nil {
			return Ephemeral{Err: "no seal: " + err.Error()}
		}
	}
	after := t.Stats()
	left, err := t.SessionObjects(ctx)
	if err != nil {
		return Ephemeral{Err: err.Error()}
	}
	return Ephemeral{
		Created: after.EphemeralCreated - before.EphemeralCreated, Destroyed: after.EphemeralDestroyed - before.EphemeralDestroyed, Left: left,
	}
}

// tryAll tries what no key may allow, once for each template. RSA keys of every size have one:
// it is tried with 2048 bits, which a token makes soonest.
func tryAll(ctx context.Context, t *hsm.Token, keys []hsm.KeyInventory) []Tried {
	var all []Tried
	at := map[string]int{}
	for _, k := range keys {
		if k.Problem == hsm.KeyNotBound || k.State == hsm.Retired {
			continue
		}
		template := strings.Join(k.Expected().Mechanisms, " ")
		if i, done := at[template]; done {
			all[i].For = append(all[i].For, k.Name)
			continue
		}
		tried := Tried{Algorithm: k.Algorithm, For: []string{k.Name}}
		if strings.HasPrefix(string(k.Algorithm), "RSA") {
			tried.Algorithm = hsm.RSA2048
		}
		var err error
		tried.Attempts, err = t.Attempts(ctx, k.Purpose, tried.Algorithm)
		tried.Err, tried.NoSuchKey = textOf(err), hsm.NoSuchKeys(err)
		at[template] = len(all)
		all = append(all, tried)
	}
	return all
}

// Read verifies all logs of a database.
func (l *Log) Read(ctx context.Context, v audit.Verification, logs audit.Logs) (err error) {
	v.MaxUnsigned = l.MaxUnsigned
	l.Anchored, l.Signed = map[Kept]audit.Checkpoint{}, map[int]time.Time{}
	for where, kept := range v.Anchored {
		for _, c := range kept {
			if at := (Kept{where, c.Origin}); c.Size >= l.Anchored[at].Size {
				l.Anchored[at] = c
			}
		}
	}
	if l.Report, err = audit.VerifyAll(ctx, v, logs); err != nil {
		return err
	}
	for _, one := range l.Report.Logs {
		last, err := logs.LogAt(one.Number).Checkpoints(ctx, one.Covered, 1)
		if err != nil {
			return err
		}
		if len(last) == 1 && last[0].Size == one.Covered {
			l.Signed[one.Number] = last[0].At
		}
	}
	return nil
}
