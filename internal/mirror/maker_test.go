package mirror_test

import (
	"testing"

	"github.com/docker/go-plugins-helpers/network"
)

// TestNetworkOfAnotherEngine: a network that this host's Docker does not list is left alone while the process that made it runs and may be
// another engine; then it goes like any other that Docker has lost.
func TestNetworkOfAnotherEngine(t *testing.T) {
	in(t, 1, func(w *world) {
		h := w.hosts[0]
		h.maker = "7@1"
		h.living.Store(true)
		h.up()
		w.must(h.driver.CreateNetwork(w.ctx, &network.CreateNetworkRequest{NetworkID: "theirs",
			IPv4Data: []*network.IPAMData{{AddressSpace: "LocalDefault", Pool: "10.77.0.0/24"}}}))
		id := h.driver.Networks()[0].ID
		h.wantTrouble(id, "7@1", "another Docker Engine") // which comes after it would have been taken for lost
		w.passes(h)
		if all := h.driver.Networks(); len(all) != 1 || all[0].Removing {
			t.Fatalf("networks %+v", all)
		}
		h.living.Store(false)
		w.clean()
		w.noTrouble(h)
	})
}
