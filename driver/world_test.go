package driver_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/roster"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

func TestMain(m *testing.M) { leaks.Main(m) }

const (
	space    = "socketplane"
	patience = 2 * time.Minute
	subnet   = "10.1.0.0/24"
)

var errPlane = errors.New("the switch is away")

// bound are the hosts that the cluster says have a network.
func (w *world) bound(network string) []string {
	w.Helper()
	bindings, err := store.NewCluster(w.kv, "reader").BoundTo(w.ctx, network)
	w.must(err)
	return bindings.Present()
}

// plane is a data plane that only remembers what it was told.
type plane struct {
	mu       sync.Mutex
	networks map[string]dataplane.Network
	down     error
	block    map[string]chan struct{} // SetNetwork of that network waits for it
	mtu      int
}

func newPlane() *plane {
	return &plane{networks: map[string]dataplane.Network{}, block: map[string]chan struct{}{}, mtu: 1450}
}

func (p *plane) MTU() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mtu
}

func (p *plane) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

func (p *plane) setDown(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = err
}

func (p *plane) SetNetwork(ctx context.Context, n dataplane.Network) error {
	p.mu.Lock()
	p.networks[n.ID] = n
	block := p.block[n.ID]
	p.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.Ready()
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
	return p.down
}

// String lists what is wanted: each network's attached endpoints and peers.
func (p *plane) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for _, id := range slices.Sorted(maps.Keys(p.networks)) {
		for _, e := range p.networks[id].Local {
			lines = append(lines, fmt.Sprintf("%s %v attached=%t", e.MAC, e.Addrs, e.Attached))
		}
		for _, r := range p.networks[id].Remote {
			for _, e := range r.Endpoints {
				lines = append(lines, fmt.Sprintf("%s %v at %s", e.MAC, e.Addrs, r.VTEP))
			}
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func (p *plane) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.networks)
}

// world is a cluster's store and the hosts that share it.
type world struct {
	*testing.T
	ctx context.Context
	kv  store.KV
}

func newWorld(t *testing.T) *world {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return &world{t, ctx, file(t, "cluster")}
}

func file(t *testing.T, name string) store.KV {
	kv, err := bolt.Open(filepath.Join(t.TempDir(), name+".db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

// host is one host: its driver, and what that works on.
type host struct {
	*driver.Driver
	w             *world
	shared, local *faulty
	cluster       *store.Cluster
	ipam          *ipamdriver.Driver
	plane         *plane
	roster        *roster.Roster
	view          *netview.View
	stop          func()
	api           string // of the engine
	named         bool   // somebody looks at names
	admit         func(context.Context) (string, error)
	hasLink       func(name string) bool // nil: this can't be told
}

func (w *world) host(id string) *host {
	w.Helper()
	h := &host{w: w, shared: newFaulty(w.kv), local: newFaulty(file(w.T, id)), stop: func() {}}
	h.cluster = store.NewCluster(h.shared, id)
	h.boot()
	w.Cleanup(func() { h.stop() })
	return h
}

// boot is the agent's start, also after its death: only the stores are as they were.
func (h *host) boot() {
	h.w.Helper()
	h.stop()
	h.stop = func() {}
	h.plane = newPlane()
	h.ipam = ipamdriver.New(h.cluster, h.local, ipamdriver.Options{})
	var hasLink func(context.Context, string) bool
	if h.hasLink != nil {
		hasLink = func(_ context.Context, name string) bool { return h.hasLink(name) }
	}
	var err error
	h.roster = roster.New(h.cluster.HostRecords, roster.Options{})
	h.view, err = netview.New(h.w.ctx, netview.Deps{Cluster: h.cluster, Roster: h.roster, Local: h.local})
	h.w.must(err)
	h.Driver, err = driver.New(h.w.ctx, driver.Deps{Cluster: h.cluster, Local: h.local, View: h.view, Dataplane: h.plane, Addresses: h.ipam},
		driver.Options{AddressSpace: space, HasLink: hasLink, Named: h.named, EngineAPI: func() string { return h.api }, Admit: func(ctx context.Context) (string, error) {
			if h.admit == nil {
				return "", nil
			}
			return h.admit(ctx)
		}})
	h.w.must(err)
	h.Replay(h.w.ctx)
}

// run watches and publishes until the test or the agent ends.
func (h *host) run() *host {
	ctx, cancel := context.WithCancel(h.w.ctx)
	var done sync.WaitGroup
	done.Go(func() { _ = h.roster.Run(ctx) })
	done.Go(func() { _ = h.view.Run(ctx) })
	done.Go(func() { _ = h.Run(ctx) })
	h.stop = func() { cancel(); done.Wait() }
	return h
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) wants(err, want error, texts ...string) {
	w.Helper()
	testenv.Wants(w, err, want, texts...)
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-w.ctx.Done():
			w.Fatalf("not within %s: %s", patience, what)
		case <-tick.C:
		}
	}
}

func (w *world) dump(kv store.KV) []string {
	w.Helper()
	entries, err := kv.List(w.ctx, "socketplane/")
	w.must(err)
	var lines []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, store.HostsPrefix) && !strings.HasPrefix(e.Key, store.LocalHosts) {
			lines = append(lines, e.Key+" = "+string(e.Value))
		}
	}
	return lines
}

func (w *world) clean(hosts ...*host) {
	w.Helper()
	w.eventually("nothing is left in the cluster", func() bool { return len(w.dump(w.kv)) == 0 })
	for _, h := range hosts {
		if rest := w.dump(h.local.KV); len(rest) > 0 || h.plane.count() > 0 {
			w.Fatalf("left on the host: %q, and in the data plane: %s", rest, h.plane)
		}
	}
}

// claims lists who has what, as "address=owner".
func (w *world) claims() string {
	w.Helper()
	blocks, err := store.NewCluster(w.kv, "reader").Blocks(w.ctx, netip.MustParsePrefix(subnet))
	w.must(err)
	var lines []string
	for _, b := range blocks {
		for a, c := range b.Claims {
			lines = append(lines, a.String()+"="+c.Owner.String())
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

const shared = "10.1.0.1=network 10.1.0.250=network"

func (w *world) wantClaims(want string) {
	w.Helper()
	if got := w.claims(); got != want {
		w.Fatalf("claims are %q, want %q", got, want)
	}
}
