package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
)

var testKeys = store.Keys{
	Cluster: "c1", CAs: []store.Authority{{Cert: "cert", Key: store.NewSecret("s3cr3t-ca")}}, Gossip: []store.Secret{store.NewSecret("s3cr3t-gossip")},
	Epoch: 3, ConsulToken: store.NewSecret("s3cr3t-consul"), AgentToken: store.NewSecret("s3cr3t-agent"), Management: []store.Secret{store.NewSecret("s3cr3t-management")},
}

func member(id, key string) store.Member {
	return store.Member{ID: id, Name: id + "-name", Addr: netip.MustParseAddr("192.0.2.1"), Port: 4780, Key: key}
}

// keyed gives the store the keys of a cluster.
func (w *world) keyed(locked bool) {
	w.Helper()
	k := testKeys
	k.Locked = locked
	w.must(w.host("a").PutKeys(w.ctx, k))
}

// token records a token, whose secret is its id in capitals.
func (w *world) token(id string, expires time.Duration, uses int) {
	w.Helper()
	hash := store.HashSecret(store.NewSecret(strings.ToUpper(id)))
	w.must(w.host("a").CreateToken(w.ctx, store.JoinToken{ID: id, Hash: hash, Expires: time.Now().Add(expires), Uses: uses}))
}

// uses tells how often each token was used.
func (w *world) uses() map[string]int {
	w.Helper()
	all, err := w.host("a").Tokens(w.ctx)
	w.must(err)
	uses := map[string]int{}
	for _, t := range all {
		uses[t.ID] = t.Used
	}
	return uses
}

func (w *world) memberIDs() []string {
	w.Helper()
	all, err := w.host("a").Members(w.ctx)
	w.must(err)
	var ids []string
	for _, m := range all {
		ids = append(ids, m.ID)
	}
	return ids
}

func testAdmit(w *world) {
	shows := func(m store.Member, token, secret string) store.Candidate {
		return store.Candidate{Member: m, Token: token, Secret: store.NewSecret(secret)}
	}
	for _, tc := range []struct {
		name   string
		locked bool
		who    store.Candidate
		want   error
		uses   int // of the token "good" afterwards, of two
	}{
		{"open", false, shows(member("new", "k2"), "", ""), nil, 0},
		{"open-with-token", false, shows(member("new", "k2"), "good", "GOOD"), nil, 1},
		{"open-with-bad-token", false, shows(member("new", "k2"), "good", "BAD"), store.ErrTokenUnknown, 0},
		{"locked", true, shows(member("new", "k2"), "", ""), store.ErrLocked, 0},
		{"locked-with-token", true, shows(member("new", "k2"), "good", "GOOD"), nil, 1},
		{"token-for-ever", true, shows(member("new", "k2"), "ever", "EVER"), nil, 0},
		{"wrong-secret", true, shows(member("new", "k2"), "good", "good"), store.ErrTokenUnknown, 0},
		{"no-secret", true, shows(member("new", "k2"), "good", ""), store.ErrTokenUnknown, 0},
		{"unknown-token", true, shows(member("new", "k2"), "other", "OTHER"), store.ErrTokenUnknown, 0},
		{"not-a-token", true, shows(member("new", "k2"), "../keys", "x"), store.ErrTokenUnknown, 0},
		{"wrong-secret-of-a-spent-one", true, shows(member("new", "k2"), "spent", "x"), store.ErrTokenUnknown, 0},
		{"expired", true, shows(member("new", "k2"), "old", "OLD"), store.ErrTokenExpired, 0},
		{"spent", true, shows(member("new", "k2"), "spent", "SPENT"), store.ErrTokenSpent, 0},
		{"member", true, shows(member("one", "k1"), "", ""), nil, 0},
		{"member-with-token", true, shows(member("one", "k1"), "good", "GOOD"), nil, 0},
		{"member-again", true, store.Candidate{Member: member("one", "k1"), Again: true}, nil, 0},
		{"member-with-other-key", true, shows(member("one", "k2"), "good", "GOOD"), store.ErrOtherKey, 0},
		{"member-with-other-key-open", false, shows(member("one", "k2"), "", ""), store.ErrOtherKey, 0},
		{"removed", false, store.Candidate{Member: member("new", "k2"), Again: true}, store.ErrNotMember, 0},
	} {
		w.wipe()
		w.keyed(tc.locked)
		w.token("good", time.Hour, 2)
		w.token("old", -time.Minute, 2)
		w.must(w.host("a").CreateToken(w.ctx, store.JoinToken{ID: "spent", Hash: store.HashSecret(store.NewSecret("SPENT")), Uses: 3, Used: 3}))
		w.must(w.host("a").CreateToken(w.ctx, store.JoinToken{ID: "ever", Hash: store.HashSecret(store.NewSecret("EVER")), Used: 9}))
		w.must(w.host("a").PutMember(w.ctx, member("one", "k1")))
		before := w.memberIDs()
		got, keys, err := w.host("a").Admit(w.ctx, tc.who)
		if !errors.Is(err, tc.want) {
			w.Errorf("%s: error %v, want %v", tc.name, err, tc.want)
			continue
		}
		if uses := w.uses()["good"]; uses != tc.uses {
			w.Errorf("%s: the token counts %d uses, want %d", tc.name, uses, tc.uses)
		}
		if err != nil {
			if after := w.memberIDs(); !slices.Equal(before, after) {
				w.Errorf("%s: members %v, want %v: a refusal has no effect", tc.name, after, before)
			}
			continue
		}
		if got.ID != tc.who.Member.ID || got.Epoch != testKeys.Epoch || keys.Cluster != "c1" || keys.Gossip[0].Reveal() != "s3cr3t-gossip" {
			w.Errorf("%s: member %+v, keys of %s", tc.name, got, keys.Cluster)
		}
		if !slices.Contains(w.memberIDs(), tc.who.Member.ID) {
			w.Errorf("%s: no record", tc.name)
		}
	}
}

// testAdmitAgain: what a member has become stays when it comes back from another address.
func testAdmitAgain(w *world) {
	w.keyed(true)
	a := w.host("a")
	old := member("one", "k1")
	old.Role, old.State, old.Joined = store.RoleServer, store.StateLeaving, time.Now().UTC().Round(0)
	w.must(a.PutMember(w.ctx, old))
	moved := member("one", "k1")
	moved.Name, moved.Addr, moved.Port = "renamed", netip.MustParseAddr("192.0.2.99"), 5000
	_, _, err := a.Admit(w.ctx, store.Candidate{Member: moved})
	w.must(err)
	all, err := a.Members(w.ctx)
	w.must(err)
	m := all[0]
	if m.Role != store.RoleServer || m.State != store.StateLeaving || !m.Joined.Equal(old.Joined) || m.Name != "renamed" || m.AddrPort().String() != "192.0.2.99:5000" || m.Epoch != testKeys.Epoch {
		w.Errorf("record %+v", m)
	}
}

// testTokenRace: of many hosts that show a token with one use in the same moment, one is admitted.
func testTokenRace(w *world) {
	w.keyed(true)
	w.token("once", time.Hour, 1)
	var won, spent atomic.Int32
	w.together(12, func(i int, c *store.Cluster) {
		_, _, err := c.Admit(w.ctx, store.Candidate{Member: member(c.Host(), fmt.Sprint("k", i)), Token: "once", Secret: store.NewSecret("ONCE")})
		switch {
		case err == nil:
			won.Add(1)
		case errors.Is(err, store.ErrTokenSpent):
			spent.Add(1)
		default:
			w.Errorf("host %d: %v", i, err)
		}
	})
	if won.Load() != 1 || spent.Load() != 11 || len(w.memberIDs()) != 1 || w.uses()["once"] != 1 {
		w.Errorf("%d admitted, %d refused as spent, members %v, uses %d", won.Load(), spent.Load(), w.memberIDs(), w.uses()["once"])
	}
}

// testLockRace: nobody is admitted without a token once Lock has returned.
func testLockRace(w *world) {
	w.keyed(false)
	var locked atomic.Bool
	w.together(12, func(i int, c *store.Cluster) {
		if i == 6 {
			if err := c.Lock(w.ctx); err != nil {
				w.Error(err)
			}
			locked.Store(true)
			return
		}
		late := locked.Load()
		_, _, err := c.Admit(w.ctx, store.Candidate{Member: member(c.Host(), fmt.Sprint("k", i))})
		if err == nil && late || err != nil && !errors.Is(err, store.ErrLocked) {
			w.Errorf("host %d, late %v: %v", i, late, err)
		}
	})
}

func testLock(w *world) {
	a := w.host("a")
	w.wants(a.Lock(w.ctx), store.ErrNotFound)
	w.keyed(false)
	state := func(locked, rotate bool, step string) {
		w.Helper()
		k, err := a.Keys(w.ctx)
		w.must(err)
		if k.Locked != locked || k.Rotate != rotate || k.Epoch != testKeys.Epoch {
			w.Errorf("%s: locked %v, rotate %v, epoch %d", step, k.Locked, k.Rotate, k.Epoch)
		}
	}
	w.must(a.Lock(w.ctx))
	state(true, true, "lock")
	_, err := a.UpdateKeys(w.ctx, func(k *store.Keys) (bool, error) { k.Rotate = false; return true, nil })
	w.must(err)
	w.must(a.Lock(w.ctx))
	state(true, false, "lock again")
	w.must(a.PutMember(w.ctx, member("one", "k1")))
	w.must(a.PutMember(w.ctx, member("two", "k2")))
	w.must(a.RemoveMember(w.ctx, "nobody"))
	state(true, false, "remove nobody")
	w.must(a.RemoveMember(w.ctx, "one"))
	state(true, true, "remove a member")
	w.must(a.Unlock(w.ctx))
	_, err = a.UpdateKeys(w.ctx, func(k *store.Keys) (bool, error) { k.Rotate = false; return true, nil })
	w.must(err)
	w.must(a.RemoveMember(w.ctx, "two"))
	state(false, false, "remove a member of an open cluster")
	if ids := w.memberIDs(); len(ids) != 0 {
		w.Errorf("members %v", ids)
	}
	other := testKeys
	other.Cluster = "c2"
	w.wants(a.PutKeys(w.ctx, other), store.ErrMismatch, "c1")
	w.must(a.PutKeys(w.ctx, testKeys))
}

func testMemberChanges(w *world) {
	a := w.host("a")
	w.wants(a.UpdateMember(w.ctx, "one", func(*store.Member) error { return nil }), store.ErrNotMember)
	w.must(a.PutMember(w.ctx, member("one", "k1")))
	w.wants(a.PutMember(w.ctx, member("one", "k2")), store.ErrOtherKey, "socketplane host rm")
	// Several hosts change one record: nothing is lost.
	w.together(8, func(_ int, c *store.Cluster) {
		if err := c.UpdateMember(w.ctx, "one", func(m *store.Member) error { m.Epoch++; return nil }); err != nil {
			w.Error(err)
		}
	})
	all, index, err := a.WatchMembers(w.ctx, 0)
	w.must(err)
	if len(all) != 1 || all[0].Epoch != 8 {
		w.Errorf("members %+v", all)
	}
	seen := make(chan []store.Member, 1)
	go func() {
		all, _, err := a.WatchMembers(w.ctx, index)
		if err != nil {
			w.Error(err)
		}
		seen <- all
	}()
	w.must(a.RemoveMember(w.ctx, "one"))
	if all := <-seen; len(all) != 0 {
		w.Errorf("watch tells %+v", all)
	}
}

func testTokens(w *world) {
	a := w.host("a")
	w.token("ancient", -30*24*time.Hour, 1)
	w.token("old", -time.Hour, 1)
	w.token("new", time.Hour, 3)
	if got := slices.Sorted(maps.Keys(w.uses())); !slices.Equal(got, []string{"new", "old"}) {
		w.Errorf("tokens %v: what expired long ago goes with the next one made", got)
	}
	w.must(a.RemoveToken(w.ctx, "old"))
	w.must(a.CreateToken(w.ctx, store.JoinToken{ID: "other", CA: "ca2"}))
	w.must(a.RemoveTokensExcept(w.ctx, []string{"", "ca3"}))
	if got := slices.Sorted(maps.Keys(w.uses())); !slices.Equal(got, []string{"new"}) {
		w.Errorf("tokens %v: one of another authority is left", got)
	}
	w.wants(a.RemoveToken(w.ctx, "old"), store.ErrNotFound, "token ls")
	w.wants(a.RemoveToken(w.ctx, ""), store.ErrInvalid)
}

// TestSecretsOfRecords: the stored form has them, nothing else shows them.
func TestSecretsOfRecords(t *testing.T) {
	stored := string(store.RevealKeys(testKeys))
	back, err := store.DecodeKeys([]byte(stored))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"s3cr3t-ca", "s3cr3t-gossip", "s3cr3t-consul", "s3cr3t-agent", "s3cr3t-management"} {
		if !strings.Contains(stored, secret) || !strings.Contains(string(store.RevealKeys(back)), secret) {
			t.Errorf("the stored form does not carry %s: %s", secret, stored)
		}
	}
	asJSON, err := json.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	hidden := struct{ k store.Keys }{back}
	forms := []string{string(asJSON)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		forms = append(forms, fmt.Sprintf(verb, back), fmt.Sprintf(verb, &back), fmt.Sprintf(verb, hidden))
	}
	for _, form := range forms {
		if strings.Contains(form, "s3cr3t") || strings.Contains(form, fmt.Sprintf("%x", "s3cr3t")) {
			t.Errorf("a secret is shown: %s", form)
		}
	}
	if _, err := store.DecodeKeys([]byte(`{"schema":1,"gossip":["s3cr3t"`)); err == nil || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("half a record: %v", err)
	}
}
