package mirror_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/roster"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// world is a cluster whose hosts have real drivers over one store. Only Docker and the switch are stand-ins, and time is short.
type world struct {
	everything time.Duration // between two times that Docker is asked for everything, if not the usual
	*testing.T
	ctx   context.Context
	kv    *shared
	first mirror.Default
	pass  time.Duration // between passes, if not the usual
	hosts []*host
}

// shared is the cluster's store, which can be away.
type shared struct {
	store.KV
	down atomic.Bool
	mute atomic.Bool // endpoints are not published
}

func (s *shared) Get(ctx context.Context, key string) (store.Entry, error) {
	if s.down.Load() {
		return store.Entry{}, store.ErrUnavailable
	}
	return s.KV.Get(ctx, key)
}

func (s *shared) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if s.down.Load() {
		return nil, store.ErrUnavailable
	}
	return s.KV.List(ctx, prefix)
}

func (s *shared) Apply(ctx context.Context, ops ...store.Op) error {
	mute := s.mute.Load() && slices.ContainsFunc(ops, func(op store.Op) bool {
		return op.Kind == store.OpPut && strings.HasPrefix(op.Key, store.Root+"endpoints/")
	})
	if s.down.Load() || mute {
		return store.ErrUnavailable
	}
	return s.KV.Apply(ctx, ops...)
}

func (s *shared) Watch(ctx context.Context, prefix string, since uint64) ([]store.Entry, uint64, error) {
	if s.down.Load() {
		return nil, 0, store.ErrUnavailable
	}
	return s.KV.Watch(ctx, prefix, since)
}

// Times of the tests: a container's start and a network's creation take a moment on a busy machine too.
var times = mirror.Times{Pass: 100 * time.Millisecond, Vanished: 2 * time.Second, Strange: 500 * time.Millisecond, All: 300 * time.Millisecond,
	Look: 50 * time.Millisecond, Lost: 6 * time.Second}

// patience bounds every wait.
const patience = time.Minute

// in runs a test in a cluster of its own, beside others.
func in(t *testing.T, hosts int, test func(w *world)) {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w := &world{T: t, ctx: ctx}
	w.kv = &shared{KV: w.file("cluster")}
	for i := range hosts {
		w.host(fmt.Sprint("h", i+1))
	}
	test(w)
}

func (w *world) file(name string) store.KV {
	w.Helper()
	kv, err := bolt.Open(filepath.Join(w.TempDir(), name+".db"), bolt.Options{NoSync: true})
	w.must(err)
	w.Cleanup(func() { _ = kv.Close() })
	return kv
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// eventually waits until wrong finds nothing wrong.
func (w *world) eventually(wrong func() string) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	last := ""
	if testenv.Poll(ctx, 10*time.Millisecond, func() bool { last = wrong(); return last == "" }) != nil {
		w.Fatalf("not within %v: %s", patience, last)
	}
}

// have waits until hosts have exactly these networks of ours.
func (w *world) have(hosts []*host, want ...string) {
	w.Helper()
	slices.Sort(want)
	w.eventually(func() string {
		for _, h := range hosts {
			if got := h.docker.names(mirror.DriverName); !slices.Equal(got, want) {
				return fmt.Sprintf("%s has %q, want %q; troubles: %v", h.id, got, want, h.Troubles())
			}
		}
		return ""
	})
}

// still demands that hosts have exactly these networks, and have them after a few passes too.
func (w *world) still(hosts []*host, want ...string) {
	w.Helper()
	w.have(hosts, want...)
	w.passes(hosts...)
	for _, h := range hosts {
		if got := h.docker.names(mirror.DriverName); !slices.Equal(got, want) {
			w.Errorf("%s no longer has %q, but %q", h.id, want, got)
		}
	}
}

// passes waits for a few passes of hosts.
func (w *world) passes(hosts ...*host) {
	w.Helper()
	for _, h := range hosts {
		until := h.docker.passes.Load() + 4
		w.eventually(func() string {
			h.Wake()
			if n := h.docker.passes.Load(); n < until {
				return fmt.Sprintf("%s makes no pass", h.id)
			}
			return ""
		})
	}
}

// clean waits until the cluster has nothing but what is kept of no network.
func (w *world) clean() {
	w.Helper()
	w.eventually(func() string {
		entries, err := w.kv.KV.List(w.ctx, store.Root)
		w.must(err)
		left := ""
		for _, e := range entries {
			if !strings.HasPrefix(e.Key, store.HostsPrefix) && e.Key != store.DefaultMadeKey && e.Key != store.IdentityKey {
				left += fmt.Sprintf("left in the cluster: %s = %s\n", e.Key, e.Value)
			}
		}
		return left
	})
}

// host is a host with its agent's parts.
type host struct {
	*mirror.Mirror
	w       *world
	id      string
	local   store.KV
	cluster *store.Cluster
	driver  *driver.Driver
	ipam    *ipamdriver.Driver
	docker  *engine
	plane   plane
	follow  bool
	routes  atomic.Pointer[netip.Prefix] // a connected one
	down    func()                       // ends its agent; a second time does nothing
	maker   string                       // marks who makes networks here
	living  atomic.Bool                  // that one runs
}

func (w *world) host(id string) *host {
	w.Helper()
	h := &host{w: w, id: id, local: w.file(id), cluster: store.NewCluster(w.kv, id), follow: true, down: func() {}}
	h.docker = newEngine(h)
	w.must(h.cluster.PutHost(w.ctx, store.Host{ID: id, Name: id}))
	w.hosts = append(w.hosts, h)
	w.Cleanup(func() { h.down() }) // before the stores are closed
	return h
}

// up starts the agent, also after it was down: only the stores and Docker are as they were.
func (h *host) up() {
	h.w.Helper()
	h.down()
	h.ipam = ipamdriver.New(h.cluster, h.local, ipamdriver.Options{})
	hosts := roster.New(h.cluster.HostRecords, roster.Options{})
	view, err := netview.New(h.w.ctx, netview.Deps{Cluster: h.cluster, Roster: hosts, Local: h.local})
	h.w.must(err)
	h.driver, err = driver.New(h.w.ctx, driver.Deps{Cluster: h.cluster, Local: h.local, View: view, Dataplane: &h.plane, Addresses: h.ipam},
		driver.Options{AddressSpace: space, Judged: true, Named: h.follow, Admit: func(context.Context) (string, error) { return h.maker, nil }})
	h.w.must(err)
	h.driver.Replay(h.w.ctx)
	times := times
	times.Pass, times.All = cmp.Or(h.w.pass, times.Pass), cmp.Or(h.w.everything, times.All)
	h.Mirror = mirror.New(h.cluster, h.driver, h.docker, mirror.Options{
		Follow: h.follow, Default: h.w.first, Pools: h.ipam, Propose: h.ipam.Propose, Times: times, Local: h.local,
		Lives: func(mark string) bool { return mark == h.maker && h.living.Load() },
		Uses: func(context.Context) ([]store.Use, error) {
			if r := h.routes.Load(); r != nil {
				return []store.Use{{Subnet: *r, Dev: "eth7"}}, nil
			}
			return nil, nil
		},
	})
	ctx, cancel := context.WithCancel(h.w.ctx)
	done := make(chan struct{})
	parts := []func(context.Context) error{hosts.Run, view.Run, h.driver.Run, h.Run, h.finish}
	for _, run := range parts {
		go func() { _ = run(ctx); done <- struct{}{} }()
	}
	h.docker.alive.Store(true)
	h.down = func() {
		h.docker.alive.Store(false)
		cancel()
		for range parts {
			<-done
		}
		h.down = func() {}
	}
}

// finish is the agent's loop for what handlers could not do.
func (h *host) finish(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(times.Pass):
			_ = errors.Join(h.driver.Sync(ctx), h.ipam.Sync(ctx))
		}
	}
}

// all starts every host's agent.
func (w *world) all() []*host {
	w.Helper()
	for _, h := range w.hosts {
		h.up()
	}
	return w.hosts
}

// trouble is what stands in the way of a network on a host; empty if nothing does.
func (h *host) trouble(name string) string {
	for _, t := range h.Troubles() {
		if t.Name == name {
			return t.Text
		}
	}
	return ""
}

// wantTrouble waits for a trouble that says all the words.
func (h *host) wantTrouble(name string, words ...string) {
	h.w.Helper()
	h.w.eventually(func() string {
		text := h.trouble(name)
		for _, word := range words {
			if !strings.Contains(text, word) {
				return fmt.Sprintf("the trouble of %s on %s does not say %q: %q", name, h.id, word, text)
			}
		}
		return ""
	})
}

// noTrouble waits until nothing stands in the way.
func (w *world) noTrouble(hosts ...*host) {
	w.Helper()
	w.eventually(func() string {
		for _, h := range hosts {
			if all := h.Troubles(); len(all) > 0 {
				return fmt.Sprintf("troubles of %s: %+v", h.id, all)
			}
		}
		return ""
	})
}

// plane forwards nothing, and remembers what it should.
type plane struct {
	mu       sync.Mutex
	networks map[string]dataplane.Network
}

func (*plane) MTU() int     { return 1450 }
func (*plane) Ready() error { return nil }

func (p *plane) SetNetwork(_ context.Context, n dataplane.Network) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.networks == nil {
		p.networks = map[string]dataplane.Network{}
	}
	p.networks[n.ID] = n
	return nil
}

func (p *plane) Apply(ctx context.Context, c dataplane.Change) error {
	p.mu.Lock()
	n, known := p.networks[c.Network]
	p.mu.Unlock()
	if !known {
		return dataplane.ErrUnknownNetwork
	}
	return p.SetNetwork(ctx, c.Apply(n))
}

func (p *plane) Attach(ctx context.Context, c dataplane.Change, _ string) error {
	return p.Apply(ctx, c)
}

func (p *plane) RemoveNetwork(_ context.Context, id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.networks, id)
	return nil
}

// forwards counts the endpoints of this host that have a part in a network, and the other hosts' that they reach.
func (p *plane) forwards(id string) (local, remote int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.networks[id].Local {
		if e.Attached {
			local++
		}
	}
	for _, peer := range p.networks[id].Remote {
		remote += len(peer.Endpoints)
	}
	return local, remote
}
