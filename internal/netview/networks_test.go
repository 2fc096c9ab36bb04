package netview_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/netview"
)

// TestNetworkStreams holds two consumers, one that looks after each change and one that looks now and then, to the whole.
func TestNetworkStreams(t *testing.T) {
	w := newWorld(t)
	v := w.view()
	v.SetNetwork(netview.Network{ID: "early", DockerID: "d-early", Name: "early"})
	streams := []*netview.NetworkStream{v.StreamNetworks(), v.StreamNetworks()}
	known := []map[string]netview.Network{{}, {}}
	look := func(i int) {
		select {
		case <-streams[i].News():
		default:
		}
		set, gone := streams[i].Take()
		for _, n := range set {
			known[i][n.DockerID] = n
		}
		for _, id := range gone {
			delete(known[i], id)
		}
		want := map[string]netview.Network{}
		for _, n := range v.Networks() {
			want[n.DockerID] = n
		}
		if !reflect.DeepEqual(known[i], want) {
			t.Fatalf("stream %d knows %v, there are %v", i, known[i], want)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		if id := fmt.Sprint("d", r.IntN(6)); r.IntN(3) == 0 {
			v.DropNetwork(id)
		} else {
			v.SetNetwork(netview.Network{ID: "n" + id, DockerID: id, Name: fmt.Sprint("web", r.IntN(3)), Endpoints: r.IntN(2), Pools: pools})
		}
		look(0)
		if r.IntN(10) == 0 {
			look(1)
		}
	}
	look(1)
}

// TestNetworkStreamsAreQuiet: what is set as it was is no news, nor is a network that came and went between two looks of which nothing was known.
func TestNetworkStreamsAreQuiet(t *testing.T) {
	w := newWorld(t)
	v := w.view()
	s := v.StreamNetworks()
	web := netview.Network{ID: "a", DockerID: "d", Name: "web", Pools: pools}
	v.SetNetwork(web)
	if set, gone := s.Take(); len(set) != 1 || set[0].Name != "web" || len(gone) != 0 {
		t.Fatalf("set %v, gone %v", set, gone)
	}
	<-s.News()
	web.Pools = slices.Clone(pools)
	v.SetNetwork(web)
	v.DropNetwork("unknown")
	select {
	case <-s.News():
		t.Error("news of nothing")
	default:
	}
	s.End()
	v.DropNetwork("d")
	if set, gone := s.Take(); len(set)+len(gone) != 0 {
		t.Errorf("an ended stream tells of %v and %v", set, gone)
	}
}

// TestNetworksCountTheirPeers: a snapshot has the hosts that are known on each network.
func TestNetworksCountTheirPeers(t *testing.T) {
	w := newWorld(t)
	v := w.view()
	v.SetNetwork(netview.Network{ID: w.network, DockerID: "d", Name: "web", Peers: 7})
	if all := v.Networks(); len(all) != 1 || all[0].Peers != 0 {
		t.Fatalf("before the others are read: %+v", all)
	}
	for i := range 2 {
		w.must(w.other(i).PutEndpoints(w.ctx, w.network, endpoints(100*i, 2)))
	}
	s := v.Stream(w.network)
	s.Follow()
	w.run(v)
	for s.Known() == nil { // until the view runs
		runtime.Gosched()
	}
	<-s.Known()
	if all := v.Networks(); len(all) != 1 || all[0].Peers != 2 {
		t.Errorf("two hosts have endpoints: %+v", all)
	}
}
