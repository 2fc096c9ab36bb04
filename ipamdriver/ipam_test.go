package ipamdriver_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/leaks"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/consul"
)

func TestMain(m *testing.M) { leaks.Main(m) }

const (
	gatewayType = "com.docker.network.gateway"
	macOption   = "com.docker.network.endpoint.macaddress"
	patience    = 3 * time.Minute // for one suite: a busy machine writes a hundred records in many seconds
)

// flaky is a store that can be made to fail: before, or after it did what it was asked.
type flaky struct {
	store.KV
	mu    sync.Mutex
	down  bool
	after bool // writes take effect, but the answers are lost
}

func (f *flaky) set(down, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down, f.after = down, after
}

func (f *flaky) state() (down, after bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.down, f.after
}

func (f *flaky) Get(ctx context.Context, key string) (store.Entry, error) {
	if down, _ := f.state(); down {
		return store.Entry{}, store.ErrUnavailable
	}
	return f.KV.Get(ctx, key)
}

func (f *flaky) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	if down, _ := f.state(); down {
		return nil, store.ErrUnavailable
	}
	return f.KV.List(ctx, prefix)
}

func (f *flaky) Apply(ctx context.Context, ops ...store.Op) error {
	down, after := f.state()
	if down {
		return store.ErrUnavailable
	}
	err := f.KV.Apply(ctx, ops...)
	if after && err == nil {
		return store.ErrUnavailable
	}
	return err
}

// world is a cluster's store and the hosts that share it.
type world struct {
	*testing.T
	ctx context.Context
	kv  store.KV
}

// host is one host with its own stores and driver.
type host struct {
	*ipamdriver.Driver
	w       *world
	cluster *store.Cluster
	shared  *flaky
	local   *flaky
}

func file(t *testing.T, name string) store.KV {
	kv, err := bolt.Open(filepath.Join(t.TempDir(), name+".db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kv.Close() })
	return kv
}

// plain makes the cluster's claims those addresses that were handed out, no more.
func plain(opts ipamdriver.Options) ipamdriver.Options {
	if opts.Spares == 0 {
		opts.Spares, opts.Rest = -1, -1
	}
	return opts
}

// host is a host without spares and rest, unless opts say otherwise.
func (w *world) host(id string, opts ipamdriver.Options) *host {
	h := &host{w: w, shared: &flaky{KV: w.kv}, local: &flaky{KV: file(w.T, id)}}
	h.cluster = store.NewCluster(h.shared, id)
	h.Driver = ipamdriver.New(h.cluster, h.local, plain(opts))
	return h
}

// restart is the agent's death: what was in memory is gone.
func (h *host) restart() { h.Driver = ipamdriver.New(h.cluster, h.local, plain(ipamdriver.Options{})) }

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

func dump(w *world, kv store.KV) []string {
	w.Helper()
	entries, err := kv.List(w.ctx, "socketplane/")
	w.must(err)
	var lines []string
	for _, e := range entries {
		lines = append(lines, e.Key+" = "+string(e.Value))
	}
	return lines
}

func (w *world) clean(hosts ...*host) {
	w.Helper()
	if rest := dump(w, w.kv); len(rest) > 0 {
		w.Fatalf("keys are left in the cluster: %q", rest)
	}
	for _, h := range hosts {
		if rest := dump(w, h.local.KV); len(rest) > 0 {
			w.Fatalf("keys are left on the host: %q", rest)
		}
	}
}

// claims lists who has what, as "address=owner".
func (w *world) claims(pool string) []string {
	w.Helper()
	blocks, err := store.NewCluster(w.kv, "reader").Blocks(w.ctx, netip.MustParsePrefix(pool))
	w.must(err)
	var lines []string
	for _, b := range blocks {
		for a, c := range b.Claims {
			lines = append(lines, a.String()+"="+c.Owner.String())
		}
	}
	slices.Sort(lines)
	return lines
}

func (w *world) wantClaims(pool string, want ...string) {
	w.Helper()
	if got := w.claims(pool); !slices.Equal(got, want) {
		w.Fatalf("claims are %q, want %q", got, want)
	}
}

func (h *host) requestPool(subnet, within string) (string, error) {
	r, err := h.RequestPool(h.w.ctx, &ipam.RequestPoolRequest{
		AddressSpace: "socketplane", Pool: subnet, SubPool: within, V6: strings.Contains(subnet, ":")})
	if err != nil {
		return "", err
	}
	return r.PoolID, nil
}

func (h *host) pool(subnet, within string) string {
	h.w.Helper()
	id, err := h.requestPool(subnet, within)
	h.w.must(err)
	return id
}

func (h *host) request(pool, addr string, options ...string) (string, error) {
	o := map[string]string{}
	for i := 0; i < len(options); i += 2 {
		o[options[i]] = options[i+1]
	}
	r, err := h.RequestAddress(h.w.ctx, &ipam.RequestAddressRequest{PoolID: pool, Address: addr, Options: o})
	if err != nil {
		return "", err
	}
	return r.Address, nil
}

func (h *host) gateway(pool, addr string) (string, error) {
	return h.request(pool, addr, "RequestAddressType", gatewayType)
}

const mac = "02:42:0a:01:00:02"

func (h *host) container(pool, addr string) (string, error) {
	return h.request(pool, addr, macOption, mac)
}

func (h *host) release(pool, addr string) error {
	if p, err := netip.ParsePrefix(addr); err == nil {
		addr = p.Addr().String()
	}
	return h.ReleaseAddress(h.w.ctx, &ipam.ReleaseAddressRequest{PoolID: pool, Address: addr})
}

func (h *host) releasePool(pool string) error {
	return h.ReleasePool(h.w.ctx, &ipam.ReleasePoolRequest{PoolID: pool})
}

// both runs a test on each kind of store.
func both(t *testing.T, suites map[string]func(*world)) {
	server := ""
	for name, run := range suites {
		t.Run(name+"/bolt", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			run(&world{t, ctx, file(t, "cluster")})
		})
	}
	t.Run("consul", func(t *testing.T) {
		server = testenv.Consul(t).Addr
		kv, err := consul.Open(consul.Options{Address: server})
		if err != nil {
			t.Fatal(err)
		}
		defer kv.Close()
		for name, run := range suites {
			t.Run(name, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				w := &world{t, ctx, kv}
				entries, err := kv.List(ctx, "socketplane/")
				w.must(err)
				for _, e := range entries {
					w.must(kv.Apply(ctx, store.Op{Kind: store.OpRemove, Key: e.Key}))
				}
				run(w)
			})
		}
	})
}
