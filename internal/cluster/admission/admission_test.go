package admission_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
)

func TestMain(m *testing.M) { leaks.Main(m) }

func TestOpen(t *testing.T) {
	d := newDoor(t, false)
	k := newKeeper(t)
	creds, err := d.ask(k, admission.Question{Host: host(1)})
	d.must(err)
	d.must(k.Set(creds))
	if got := d.members(); len(got) != 2 || got[1] != "host0001" {
		t.Fatalf("members %v", got)
	}
	if p := creds.Peers; len(p) != 1 || p[0].ID != "founder1" || p[0].Addr != d.addr {
		t.Fatalf("peers %+v", p)
	}
	d.must(d.cluster.Lock(d.ctx))
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(2)})
	d.refused(err, admission.CodeLocked, "host0002")
	// Who is inside is admitted again, also when it lost what it had.
	_, err = d.ask(k, admission.Question{Host: host(1), Again: true, Cluster: creds.Cluster()})
	d.must(err)
	// Another host can't take its id.
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(1)})
	d.refused(err, admission.CodeOtherKey, "host0001")
	d.must(d.cluster.Unlock(d.ctx))
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(2)})
	d.must(err)
}

// TestCaseOfID: Consul ignores case in the names of nodes and policies, so no host gets an id that differs from another one in that only.
func TestCaseOfID(t *testing.T) {
	d := newDoor(t, false)
	ask := func(id string) error {
		h := host(1)
		h.ID = id
		_, err := d.ask(newKeeper(t), admission.Question{Host: h})
		return err
	}
	d.must(ask("aaaaaaaa"))
	d.refused(ask("AAAAAAAA"), admission.CodeBadRequest, "AAAAAAAA")
	d.refused(ask("aaaaaaaA"), admission.CodeBadRequest, "aaaaaaaA")
	if got := d.members(); !slices.Equal(got, []string{"founder1", "aaaaaaaa"}) {
		t.Errorf("members %v", got)
	}
}

func TestTokens(t *testing.T) {
	d := newDoor(t, true)
	other := newDoor(t, true)
	ask := func(n int, token *trust.Token) error {
		_, err := d.ask(newKeeper(t), admission.Question{Host: host(n), Token: token})
		return err
	}
	good := d.token(time.Hour, 1)
	d.must(ask(1, good))
	d.refused(ask(2, good), admission.CodeTokenSpent, "host0002")
	d.refused(ask(3, d.token(-time.Second, 1)), admission.CodeTokenExpired, "host0003")
	removed := d.token(time.Hour, 1)
	d.must(d.cluster.RemoveToken(d.ctx, removed.ID))
	d.refused(ask(4, removed), admission.CodeToken, "host0004")
	forged := *d.token(time.Hour, 1)
	forged.Secret = store.NewSecret(strings.Repeat("0", 32))
	d.refused(ask(5, &forged), admission.CodeToken, "host0005")
	if got := d.members(); len(got) != 2 {
		t.Errorf("members %v", got)
	}
	// A host with the token of another cluster tells this one nothing.
	foreign := other.token(time.Hour, 1)
	before := len(d.log.String())
	if err := ask(6, foreign); !errors.Is(err, trust.ErrStranger) {
		t.Errorf("a token of another cluster: %v", err)
	}
	d.until("the log tells of the broken handshake", func() bool { return len(d.log.String()) > before })
	if log := d.log.String()[before:]; strings.Contains(log, "host0006") {
		t.Errorf("it has told its name: %s", log)
	}
	for _, secret := range []string{good.Secret.Reveal(), forged.Secret.Reveal(), foreign.Secret.Reveal(), "PRIVATE"} {
		if strings.Contains(d.log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// TestReplay: of two hosts that show a token with one use in the same moment, one is admitted.
func TestReplay(t *testing.T) {
	d := newDoor(t, true)
	for round := range 5 {
		token := d.token(time.Hour, 1)
		errs := make(chan error, 2)
		for i := range 2 {
			k := newKeeper(t)
			go func() {
				_, err := d.ask(k, admission.Question{Host: host(10*round + i), Token: token})
				errs <- err
			}()
		}
		var refusals []error
		for range 2 {
			if err := <-errs; err != nil {
				refusals = append(refusals, err)
			}
		}
		if len(refusals) != 1 {
			t.Fatalf("round %d: refusals %v", round, refusals)
		}
		d.refused(refusals[0], admission.CodeTokenSpent, "host")
	}
	if got := d.members(); len(got) != 6 {
		t.Errorf("members %v", got)
	}
}

// TestImpostor: who has a token, or was a member, does not speak to somebody else at the address.
func TestImpostor(t *testing.T) {
	d, impostor := newDoor(t, false), newDoor(t, false)
	k := newKeeper(t)
	creds, err := d.ask(k, admission.Question{Host: host(1)})
	d.must(err)
	d.must(k.Set(creds))
	before := impostor.members()
	for name, q := range map[string]admission.Question{
		"token":  {Host: host(2), Token: d.token(time.Hour, 1)},
		"member": {Host: host(1), Again: true, Cluster: creds.Cluster()},
	} {
		if _, err := impostor.ask(k, q); !errors.Is(err, trust.ErrStranger) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without either, it says at least which cluster it means.
	_, err = impostor.ask(k, admission.Question{Host: host(3), Cluster: creds.Cluster()})
	impostor.refused(err, admission.CodeOtherCluster, "host0003")
	if got := impostor.members(); len(got) != len(before) {
		t.Errorf("the impostor's members are %v", got)
	}
}

// TestBackAfterRotation: a member that was off while the keys were rotated is admitted again by its key, and knows whom it
// speaks to by the other's key; a removed one is not admitted, and hears so from a host that it knew.
func TestBackAfterRotation(t *testing.T) {
	d := newDoor(t, false)
	k, gone := newKeeper(t), newKeeper(t)
	for i, keeper := range []*trust.Keeper{k, gone} {
		creds, err := d.ask(keeper, admission.Question{Host: host(i)})
		d.must(err)
		d.must(keeper.Set(creds))
	}
	cluster := k.Credentials().Cluster()
	d.must(d.cluster.Lock(d.ctx))
	d.must(d.cluster.RemoveMember(d.ctx, host(1).ID))
	d.rotate()
	d.rotate()
	creds, err := d.ask(k, admission.Question{Host: host(0), Again: true, Cluster: cluster})
	d.must(err)
	if creds.Keys.Epoch != 7 || string(creds.Bundle()) == string(k.Credentials().Bundle()) {
		t.Errorf("epoch %d", creds.Keys.Epoch)
	}
	d.must(k.Set(creds))
	_, err = d.ask(gone, admission.Question{Host: host(1), Again: true, Cluster: cluster})
	d.refused(err, admission.CodeNotMember, "host0001")
	_, err = d.ask(gone, admission.Question{Host: host(1)})
	d.refused(err, admission.CodeLocked, "host0001")
	// Its key is worth nothing under another member's id, either.
	_, err = d.ask(gone, admission.Question{Host: host(0), Again: true, Cluster: cluster})
	d.refused(err, admission.CodeOtherKey, "host0000")
}

// TestWithoutMajority: while the store is away nobody new is admitted, but a known member gets what it missed.
func TestWithoutMajority(t *testing.T) {
	d := newDoor(t, false)
	k := newKeeper(t)
	creds, err := d.ask(k, admission.Question{Host: host(1)})
	d.must(err)
	d.must(k.Set(creds))
	members, err := d.cluster.Members(d.ctx)
	d.must(err)
	d.must(d.keeper.SetPeers(trust.Peers(members, "founder1")))
	d.kv.set(true)
	creds, err = d.ask(k, admission.Question{Host: host(1), Again: true, Cluster: creds.Cluster()})
	d.must(err)
	if p := creds.Peers; len(p) != 1 || p[0].ID != "founder1" {
		t.Errorf("peers %+v", p)
	}
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(2)})
	d.refused(err, admission.CodeNotNow, "host0002")
	_, err = d.ask(newKeeper(t), admission.Question{Host: host(1)})
	d.refused(err, admission.CodeNotNow, "host0001")
}

// TestTokenDuringRotation: a token names the authority that lasts, which does not sign yet when it is made.
func TestTokenDuringRotation(t *testing.T) {
	d := newDoor(t, true)
	before := d.token(time.Hour, 0)
	fresh, err := trust.Found(d.keeper.Identity(), trust.Subject{ID: "founder1"}, true, trust.Lifetimes{}, time.Now())
	d.must(err)
	phase := func(phase store.Phase, cas func([]store.Authority) []store.Authority) {
		keys, err := d.cluster.UpdateKeys(d.ctx, func(k *store.Keys) (bool, error) {
			k.Phase, k.CAs, k.Epoch = phase, cas(k.CAs), k.Epoch+1
			return true, nil
		})
		d.must(err)
		mine := d.keeper.Credentials()
		mine.Keys = keys
		mine.Cert, err = trust.Issue(keys, trust.Subject{ID: "founder1"}, d.keeper.Identity().Public(), time.Hour, time.Now())
		d.must(err)
		d.must(d.keeper.Set(mine))
	}
	n := 0
	works := func(step string, token *trust.Token, want bool) {
		n++
		_, err := d.ask(newKeeper(t), admission.Question{Host: host(n), Token: token})
		if (err == nil) != want || err != nil && !errors.Is(err, trust.ErrStranger) {
			t.Errorf("%s: %v", step, err)
		}
	}
	phase(store.PhaseSpread, func(cas []store.Authority) []store.Authority { return append(cas, fresh.Keys.CAs[0]) })
	during := d.token(time.Hour, 0)
	works("spread, made before", before, true)
	works("spread, made during", during, true)
	phase(store.PhaseUse, func(cas []store.Authority) []store.Authority { return []store.Authority{cas[1], cas[0]} })
	works("use, made before", before, true)
	works("use, made during", during, true)
	phase(store.PhaseNone, func(cas []store.Authority) []store.Authority { return cas[:1] })
	works("done, made before", before, false)
	works("done, made during", during, true)
}
