package checkup

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// TestMissing: the doctor counts what the store has of this host's containers; a network without containers, or one that is cut off, misses none.
func TestMissing(t *testing.T) {
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	cluster := store.NewCluster(kv, "me")
	c := New(Parts{Cluster: cluster})
	n, err := cluster.Bind(t.Context(), store.Binding{DockerID: "d", Name: "web", Pools: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}})
	if err == nil {
		err = cluster.PutEndpoints(t.Context(), n.ID, []store.Endpoint{{ID: "e1"}, {ID: "e2"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		here netview.Network
		want string
	}{
		{netview.Network{ID: n.ID, Name: "web", Endpoints: 2}, ""},
		{netview.Network{ID: n.ID, Name: "web", Endpoints: 3}, "network web: the other hosts know 2 of its 3 containers here"},
		{netview.Network{ID: n.ID, Name: "web", Endpoints: 3, Cut: "it is"}, ""},
		{netview.Network{ID: "other", Name: "db"}, ""},
		{netview.Network{ID: "other", Name: "db", Endpoints: 1}, "network db: the other hosts know 0 of its 1 containers here"},
	} {
		missing, err := c.missing(t.Context(), []netview.Network{tt.here})
		if got := missing[tt.here.ID]; err != nil || got != tt.want || strings.Contains(got, "%!") {
			t.Errorf("%+v: %q, %v, want %q", tt.here, got, err, tt.want)
		}
	}
}
