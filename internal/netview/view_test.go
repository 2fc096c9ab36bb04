package netview_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/roster"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

func TestMain(m *testing.M) { leaks.Main(m) }

const patience = 2 * time.Minute

var pools = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}

// world is a cluster's store, in which one host has a view and the others are records.
type world struct {
	*testing.T
	ctx     context.Context
	kv      store.KV
	local   store.KV
	network string
	me      *store.Cluster
	rosters map[*netview.View]*roster.Roster
}

// eachLayout runs a test with each layout of the cluster's records.
func eachLayout(t *testing.T, test func(w *world)) {
	for layout := store.FirstLayout; layout <= store.NewestLayout; layout++ {
		t.Run(fmt.Sprint("layout-", layout), func(t *testing.T) {
			w := newWorld(t)
			w.must(w.me.SetLayout(w.ctx, layout))
			test(w)
		})
	}
}

func newWorld(t *testing.T) *world {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx, kv: file(t, "cluster"), local: file(t, "local"), rosters: map[*netview.View]*roster.Roster{}}
	w.me = store.NewCluster(w.kv, "me")
	n, err := w.me.Bind(ctx, store.Binding{DockerID: "dme", Pools: pools})
	w.must(err)
	w.network = n.ID
	return w
}

func file(t *testing.T, name string) store.KV {
	kv, err := bolt.Open(filepath.Join(t.TempDir(), name+".db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// other is another host with its record, which has the network.
func (w *world) other(i int) *store.Cluster {
	w.Helper()
	id := fmt.Sprintf("host%04d", i)
	c := store.NewCluster(w.kv, id)
	w.must(c.PutHost(w.ctx, store.Host{Name: id, VTEP: vtep(i), MTU: 1500}))
	_, err := c.Bind(w.ctx, store.Binding{ID: w.network, DockerID: "d" + id, Pools: pools})
	w.must(err)
	return c
}

func vtep(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(2 + i>>8), byte(i)}) }

func endpoint(n int) store.Endpoint {
	return store.Endpoint{
		ID: fmt.Sprintf("%064x", n), MAC: fmt.Sprintf("02:00:00:%02x:%02x:%02x", n>>16&255, n>>8&255, n&255),
		Addrs:     []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})},
		Container: &store.Container{ID: fmt.Sprintf("%064x", n+1<<30), Name: fmt.Sprint("container-", n)},
	}
}

func endpoints(first, count int) (all []store.Endpoint) {
	for i := range count {
		all = append(all, endpoint(first+i))
	}
	return all
}

// view is a running view of the host.
func (w *world) view() *netview.View {
	return w.viewOf(w.me, w.local)
}

func (w *world) viewOf(cluster *store.Cluster, local store.KV) *netview.View {
	hosts := roster.New(cluster.HostRecords, roster.Options{})
	v, err := netview.New(w.ctx, netview.Deps{Cluster: cluster, Roster: hosts, Local: local})
	w.must(err)
	w.rosters[v] = hosts
	return v
}

func (w *world) run(v *netview.View) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	var done sync.WaitGroup
	done.Go(func() { _ = w.rosters[v].Run(ctx) })
	done.Go(func() { _ = v.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); done.Wait() })
	w.Cleanup(stop)
	return stop
}

// plane applies what a stream says to a network, as a data plane would.
type plane struct{ dataplane.Network }

func (p *plane) take(s *netview.Stream) netview.Delta {
	d := s.Take()
	p.Network = dataplane.Change{Peers: d.Peers}.Apply(p.Network)
	return d
}

func (p *plane) count() (n int) {
	for _, r := range p.Remote {
		n += len(r.Endpoints)
	}
	return n
}

// follow takes changes until the plane is as wanted.
func (w *world) follow(p *plane, s *netview.Stream, what string, ok func() bool) {
	w.Helper()
	for p.take(s); !ok(); p.take(s) {
		select {
		case <-s.News():
		case <-w.ctx.Done():
			w.Fatalf("not within %v: %s; %d endpoints", patience, what, p.count())
		}
	}
}

// next waits for something new. A stream may have woken its consumer for what that has taken already.
func (w *world) next(p *plane, s *netview.Stream) netview.Delta {
	w.Helper()
	for {
		if d := p.take(s); !d.Empty() {
			return d
		}
		select {
		case <-s.News():
		case <-w.ctx.Done():
			w.Fatal("nothing new")
		}
	}
}

// TestDelta: a consumer that only takes changes knows the same as one that asks for everything, and hears of nothing but what has changed.
func TestDelta(t *testing.T) { eachLayout(t, testDelta) }

func testDelta(w *world) {
	t := w.T
	a, b := w.other(1), w.other(2)
	w.must(a.PutEndpoints(w.ctx, w.network, endpoints(0, 100)))
	w.must(b.PutEndpoints(w.ctx, w.network, endpoints(1000, 100)))
	v := w.view()
	s, p := v.Stream(w.network), &plane{}
	s.Follow()
	w.run(v)
	w.follow(p, s, "all are known", func() bool { return p.count() == 200 })
	same := func() {
		t.Helper()
		if whole := w.view2(v); !slices.EqualFunc(whole, p.Remote, samePeer) {
			t.Errorf("by changes %v, as a whole %v", p.Remote, whole)
		}
	}
	same()

	// One endpoint more, one less, one with another MAC.
	now := endpoints(0, 101)[1:]
	now[5].MAC = "02:ff:00:00:00:01"
	w.must(a.PutEndpoints(w.ctx, w.network, now))
	d := w.next(p, s)
	if len(d.Peers) != 1 || d.Peers[0].Host != "host0001" || len(d.Peers[0].Set) != 2 || len(d.Peers[0].Unset) != 1 {
		t.Errorf("the change of three endpoints is %+v", d.Peers)
	}
	same()
	if host := v.HasMAC(w.network, dataplane.MAC{2, 0xff, 0, 0, 0, 1}); host != "host0001" {
		t.Errorf("the MAC is of %q", host)
	}
	if host := v.HasMAC(w.network, dataplane.MAC{2, 0, 0, 0, 0, 0}); host != "" {
		t.Errorf("the MAC of an endpoint that is gone is of %q", host)
	}
	// A host that is reached elsewhere, without another word about its endpoints.
	w.must(b.PutHost(w.ctx, store.Host{Name: "b", VTEP: vtep(200), MTU: 1500}))
	if d = w.next(p, s); len(d.Peers) != 1 || d.Peers[0].VTEP != vtep(200) || len(d.Peers[0].Set)+len(d.Peers[0].Unset) != 0 {
		t.Errorf("another VTEP is %+v", d.Peers)
	}
	same()
	// A host that has no endpoint on the network concerns no consumer of it.
	w.other(3)
	w.must(b.PutEndpoints(w.ctx, w.network, nil))
	if d = w.next(p, s); len(d.Peers) != 1 || !d.Peers[0].Gone || d.Peers[0].Host != "host0002" {
		t.Errorf("a host that is gone is %+v", d.Peers)
	}
	same()
	if hosts, all := v.Count(); hosts != 1 || all != 100 {
		t.Errorf("%d hosts with %d endpoints are counted", hosts, all)
	}
}

// view2 is what a second consumer gets as a whole.
func (w *world) view2(v *netview.View) []dataplane.Peer {
	s := v.Stream(w.network)
	defer s.End()
	return s.Whole()
}

func samePeer(a, b dataplane.Peer) bool {
	return a.Host == b.Host && a.VTEP == b.VTEP && slices.EqualFunc(a.Endpoints, b.Endpoints, func(x, y dataplane.PeerEndpoint) bool {
		return x.ID == y.ID && x.MAC == y.MAC && slices.Equal(x.Addrs, y.Addrs)
	})
}

// TestLinkLocalOwners: of two containers with one link-local address the one with the smaller ID has it; consumers hear of both when that changes, here and elsewhere.
func TestLinkLocalOwners(t *testing.T) { eachLayout(t, testLinkLocalOwners) }

func testLinkLocalOwners(w *world) {
	t := w.T
	a := w.other(1)
	shared := netip.MustParseAddr("169.254.7.7")
	with := func(n int) store.Endpoint {
		e := endpoint(n)
		e.Container.LinkLocal = []netip.Addr{shared}
		return e
	}
	v := w.view()
	s, p := v.Stream(w.network), &plane{}
	s.Follow()
	w.run(v)
	mine := with(20)
	v.SetEndpoint(w.network, mine, true)
	w.must(a.PutEndpoints(w.ctx, w.network, []store.Endpoint{with(30), endpoint(31)}))
	w.follow(p, s, "the peer is known", func() bool { return p.count() == 2 })
	if got := s.LinkLocal(mine.ID); !slices.Equal(got, []netip.Addr{shared}) || len(p.Remote[0].Endpoints[0].Addrs) != 1 {
		t.Errorf("the local endpoint has %v, the peers are %v", got, p.Remote)
	}
	w.must(a.PutEndpoints(w.ctx, w.network, []store.Endpoint{with(10), with(30), endpoint(31)}))
	if d := w.next(p, s); !slices.Equal(d.Local, []string{mine.ID}) || len(d.Peers) != 1 || len(d.Peers[0].Set) != 1 {
		t.Errorf("a new owner elsewhere is told by %+v", d)
	}
	if got := s.LinkLocal(mine.ID); len(got) > 0 {
		t.Errorf("the local endpoint still has %v", got)
	}
	w.must(a.PutEndpoints(w.ctx, w.network, []store.Endpoint{with(30), endpoint(31)}))
	w.next(p, s)
	v.DropEndpoint(w.network, mine.ID)
	if d := p.take(s); len(d.Peers) != 1 || len(d.Peers[0].Set) != 1 || len(d.Peers[0].Set[0].Addrs) != 2 {
		t.Errorf("the last owner is told by %+v", d)
	}
}

// TestRestartPublishesNothing: an agent that starts again with the same containers writes nothing, so that no other host reads anything.
func TestRestartPublishesNothing(t *testing.T) { eachLayout(t, testRestartPublishesNothing) }

func testRestartPublishesNothing(w *world) {
	t := w.T
	start := func(all ...store.Endpoint) (stop func()) {
		v := w.view()
		v.Stream(w.network)
		for _, e := range all {
			v.SetEndpoint(w.network, e, true)
		}
		return w.run(v)
	}
	published := func(count int) store.Endpoints {
		t.Helper()
		for {
			e, err := w.me.Endpoints(w.ctx, w.network, "me")
			w.must(err)
			if len(e.Endpoints) == count {
				return e
			}
		}
	}
	stop := start(endpoints(0, 3)...)
	first := published(3)
	stop()
	before := w.versions()
	v := w.view()
	s := v.Stream(w.network)
	for _, e := range endpoints(0, 3) {
		v.SetEndpoint(w.network, e, true)
	}
	s.Follow()
	stop = w.run(v)
	for s.Known() == nil {
		runtime.Gosched() // Run has not begun yet
	}
	<-s.Known()
	v.SetEndpoint(w.network, endpoint(0), true) // the publisher comes to this one after the first
	stop()
	if again := published(3); again.Revision != first.Revision || w.versions() != before {
		t.Error("the same endpoints were published again")
	}
	stop = start(endpoints(0, 2)...)
	published(2)
	stop()
	// What another program has removed is written again.
	v = w.view()
	s = v.Stream(w.network)
	s.Follow()
	for _, e := range endpoints(0, 2) {
		v.SetEndpoint(w.network, e, true)
	}
	w.run(v)
	v.SetEndpoint(w.network, endpoint(2), true)
	published(3)
	w.must(w.me.PutEndpoints(w.ctx, w.network, nil))
	published(3)
}

// versions are the keys of this host's endpoints with their versions.
func (w *world) versions() (all string) {
	w.Helper()
	for _, prefix := range []string{store.EndpointsPrefix(w.network), store.IndexPrefix(w.network), store.HeadsOf(w.network), store.PartsOf(w.network, "me")} {
		entries, err := w.kv.List(w.ctx, prefix)
		w.must(err)
		for _, e := range entries {
			all += fmt.Sprintln(e.Key, e.Version)
		}
	}
	return all
}

// TestMemory: 100,000 endpoints of 1,000 hosts take less than 60 MiB.
func TestMemory(t *testing.T) {
	const hosts, each, limit = 1000, 100, 60 << 20
	w := newWorld(t)
	for i := range hosts {
		// As the host's own store has them from the last run: what they take does not depend on where they come from.
		r := store.Endpoints{Schema: 1, Network: w.network, Host: fmt.Sprintf("%032x", i), Revision: "r", Endpoints: endpoints(i*each, each)}
		w.must(w.local.Apply(w.ctx, store.Op{Kind: store.OpPut, Key: store.LocalPeerKey(w.network, r.Host), Value: store.Encode(r)},
			store.Op{Kind: store.OpPut, Key: store.LocalHostsKey(r.Host), Value: store.Encode(store.Host{ID: r.Host, VTEP: vtep(i)})}))
	}
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	v := w.view()
	s := v.Stream(w.network)
	if peers := s.Whole(); len(peers) != hosts {
		t.Fatalf("%d hosts are known", len(peers))
	}
	after := used()
	if _, all := v.Count(); all != hosts*each {
		t.Fatalf("%d endpoints are known", all)
	}
	t.Logf("%d endpoints take %.1f MiB", hosts*each, float64(after-before)/(1<<20))
	if after-before > limit {
		t.Errorf("they take %d bytes, more than %d", after-before, limit)
	}
	runtime.KeepAlive(s)
}
