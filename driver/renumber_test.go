package driver_test

import (
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestMadeAgainWhileOff: a network is removed while a host is off, and another one is made with its subnet. Containers that start on the
// host before it knows have no part in the new segment, unless the new network has the name of the former one.
func TestMadeAgainWhileOff(t *testing.T) {
	for _, name := range []string{"new", "web"} {
		w := newWorld(t)
		a, off := w.host("a"), w.host("off")
		off.named = true
		off.boot()
		former, err := a.cluster.Create(w.ctx, store.NewNetwork{Name: "web", Pools: []netip.Prefix{netip.MustParsePrefix(subnet)}})
		w.must(err)
		w.must(off.create("d1", "LocalDefault"))
		w.must(off.SetName(w.ctx, "d1", "web"))
		w.must(a.cluster.Remove(w.ctx, former.ID))
		w.must(a.create("d2", "LocalDefault"))
		made := a.Networks()[0]
		_, err = a.cluster.Declare(w.ctx, made.ID, name, store.Declaration{})
		w.must(err)

		off.boot()
		off.container("d1", "e", "10.1.0.2/24")
		if err := off.Sync(w.ctx); err != nil {
			t.Fatal(err)
		}
		vni := off.plane.networks[off.Networks()[0].ID].VNI
		if joins := vni == made.VNI; joins != (name == "web") {
			t.Errorf("%s: the host that was off forwards with VNI %d, that of the former network is %d, of the new one %d", name, vni, former.VNI, made.VNI)
		}
	}
}
