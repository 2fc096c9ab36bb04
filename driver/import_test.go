package driver_test

import (
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestNetworksComeAlong: a host's networks go to another cluster, where the VNI of one is taken; the host forwards with
// the new one, also after a restart.
func TestNetworksComeAlong(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	w.must(a.create("n1", "LocalDefault"))
	a.container("n1", "e1", "10.1.0.7/24")
	former := a.Networks()[0]

	there := file(t, "there")
	w.must(there.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.VNIKey(former.VNI), Value: []byte("another")}))
	next := store.NewCluster(there, "a")
	done, err := next.Import(w.ctx, w.kv)
	w.must(err)
	w.kv, a.shared = there, newFaulty(there)
	a.cluster = store.NewCluster(a.shared, "a")
	for range 2 {
		a.boot()
		w.must(a.Sync(w.ctx))
		w.must(a.ipam.Sync(w.ctx))
		now := a.Networks()[0]
		if now.ID != former.ID || now.VNI == former.VNI || now.VNI != done.Networks[0].VNI || now.Endpoints != 1 {
			t.Errorf("network is %+v, was %+v, came along as %+v", now, former, done.Networks)
		}
		if got := a.plane.networks[now.ID].VNI; got != now.VNI {
			t.Errorf("the data plane has VNI %d, want %d", got, now.VNI)
		}
		w.wantClaims(shared + " 10.1.0.7=a")
	}
	w.must(a.leave("n1", "e1"))
	w.must(a.delete("n1", "e1"))
	w.must(a.remove("n1"))
	w.must(there.Apply(w.ctx, store.Op{Kind: store.OpRemove, Key: store.VNIKey(former.VNI)}))
	w.clean(a)
}
