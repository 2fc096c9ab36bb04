package janitor

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// TestExpiryDespiteClocks: a host is removed when it has been away for the limit, whatever the clocks of those who noted it said: one was slow, or ahead,
// or was set while this agent looked.
func TestExpiryDespiteClocks(t *testing.T) {
	const expiry = 24 * time.Hour
	for name, c := range map[string]struct {
		noted time.Duration // when the host went away, as the record says
		set   time.Duration // by how much this agent's clock is set after it has seen the host away
		gone  time.Duration // when the host is to be removed
	}{
		"as it is":                        {0, 0, expiry},
		"away for longer than this agent": {-20 * time.Hour, 0, 4 * time.Hour},
		"away for very long":              {-20 * expiry, 0, watchedFor},
		"the clock was set forward":       {0, 48 * time.Hour, expiry},
		"the clock was set back":          {-time.Hour, -48 * time.Hour, expiry - time.Hour},
		"a clock that is years ahead":     {80000 * time.Hour, 0, expiry},
	} {
		t.Run(name, func(t *testing.T) {
			kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer kv.Close()
			a, b := store.NewCluster(kv, "a"), store.NewCluster(kv, "b")
			began := time.Now()
			g := store.Gone{Schema: store.Schema, ID: "b", Since: began.Add(c.noted).UTC(), By: "c"}
			if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: store.GoneKey("b"), Value: store.Encode(g)}); err != nil {
				t.Fatal(err)
			}
			for _, h := range []*store.Cluster{a, b} {
				if err := h.PutHost(t.Context(), store.Host{Name: h.Host()}); err != nil {
					t.Fatal(err)
				}
			}
			if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: store.AliveKey("a"), Value: []byte("a")}); err != nil {
				t.Fatal(err)
			}
			j := New(a, Options{Expiry: expiry, Grace: time.Hour, Members: func() (store.Membership, bool) {
				members, err := a.Hosts(t.Context())
				return members, err == nil
			}})
			defer j.living.end()
			there := func(after, set time.Duration) bool {
				if err := j.tidy(t.Context(), moment{began.Add(after + set), after}); err != nil {
					t.Fatal(err)
				}
				members, err := a.Hosts(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return members.Known("b")
			}
			if !there(0, 0) {
				t.Fatal("the host is removed at first sight")
			}
			if !there(c.gone-time.Minute, c.set) {
				t.Errorf("the host is removed too early")
			} else if there(c.gone+time.Minute, c.set) {
				t.Errorf("the host is not removed in time")
			}
		})
	}
}
