package driver_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestFirstContainerKnowsPeers: what a host's first container on a network asks for at once, this host knows. Its kernel
// would ask again a second later only.
func TestFirstContainerKnowsPeers(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a").run(), w.host("b").run()
	w.must(b.cluster.PutHost(w.ctx, store.Host{Name: "b", VTEP: netip.MustParseAddr("192.0.2.2")}))
	w.must(a.create("na", "LocalDefault"))
	w.must(b.create("nb", "LocalDefault"))
	b.container("nb", "eb", "10.1.0.8/24")
	knows := func() bool { return strings.Contains(a.plane.String(), "[10.1.0.8] at 192.0.2.2") }
	for i := range 20 {
		endpoint := fmt.Sprintf("e%d", i)
		a.container("na", endpoint, "10.1.0.7/24")
		if i == 0 {
			w.eventually("a sees b", knows) // both records are on their way
		}
		if !knows() {
			t.Fatalf("container %d has joined, and its host knows no peers", i)
		}
		w.must(a.leave("na", endpoint))
		w.must(a.delete("na", endpoint))
	}
}
