package scale

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/test/internal/libnetwork"
)

// The first two bytes of MACs, by who has them.
const (
	macLocal  = "02:44" // containers of the host that is looked at
	macPeer   = "02:42" // those that other hosts have from the beginning
	macUpdate = "02:53" // those that they get while they are looked at
)

// The network that all have: the host takes its addresses from the first part, the others count up behind it.
var (
	wide  = netip.MustParsePrefix("10.64.0.0/14")
	local = netip.MustParsePrefix("10.64.0.0/16")
)

// spread is how many addresses each other host has for itself.
const spread = 160

// peers are the other hosts, as records.
type peers struct {
	kv  store.KV
	all []*peer
	// first is how many endpoints the hosts had when they joined.
	first int
}

// peer is another host. Its methods are for one goroutine.
type peer struct {
	number    int
	c         *store.Cluster
	network   string
	endpoints []store.Endpoint
	updates   int
}

// newPeers writes the records of other hosts with endpoints on the wide network: of the hosts, of their networks, of their endpoints. The
// Consul server has this address.
func newPeers(ctx context.Context, t testing.TB, server string, hosts, each int) (*peers, error) {
	kv, err := consul.Open(consul.Options{Address: server})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = kv.Close() })
	if err := store.NewCluster(kv, "first").BeginLayout(ctx); err != nil {
		return nil, err
	}
	p := &peers{kv: kv, first: hosts * each}
	for i := range hosts {
		p.all = append(p.all, p.peer(i))
	}
	// One after the other: at once they would wait for each other (measureBinds takes the time of that).
	for _, o := range p.all {
		if err := errors.Join(o.begin(ctx), o.bind(ctx)); err != nil {
			return nil, err
		}
	}
	// The host that is looked at is one of many: another one is the janitor.
	if mine, err := p.all[0].c.IsJanitor(ctx, store.Membership{}); err != nil || !mine {
		return nil, fmt.Errorf("the first host is not the janitor: %t, %w", mine, err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, o := range p.all {
		g.Go(func() error { return o.publish(gctx, each) })
	}
	return p, g.Wait()
}

func (p *peers) peer(number int) *peer {
	return &peer{number: number, c: store.NewCluster(p.kv, fmt.Sprintf("%016x", 0x5ca1e000+number))}
}

// add lets one more host join the network.
func (p *peers) add(ctx context.Context, each int) error {
	o := p.peer(len(p.all))
	p.all = append(p.all, o)
	p.first += each
	return o.arrive(ctx, each)
}

// arrive writes what a host writes that starts, binds the network and has containers.
func (o *peer) arrive(ctx context.Context, each int) error {
	if err := o.begin(ctx); err != nil {
		return err
	}
	return o.join(ctx, each)
}

// join writes what a host writes that binds the network and has containers.
func (o *peer) join(ctx context.Context, each int) error {
	if err := o.bind(ctx); err != nil {
		return err
	}
	return o.publish(ctx, each)
}

// bind writes that the host has the network.
func (o *peer) bind(ctx context.Context) error {
	if _, err := o.c.AcquirePool(ctx, wide); err != nil {
		return fmt.Errorf("host %d holds the subnet: %w", o.number, err)
	}
	n, err := o.c.Bind(ctx, store.Binding{DockerID: libnetwork.ID("net", o.number), Pools: []netip.Prefix{wide}})
	if err != nil {
		return fmt.Errorf("host %d binds the network: %w", o.number, err)
	}
	o.network = n.ID
	return nil
}

// begin writes what the host's agent writes when it starts: the host's record and its sign of life.
func (o *peer) begin(ctx context.Context) error {
	vtep := netip.AddrFrom4([4]byte{198, 18, byte(1 + o.number/250), byte(1 + o.number%250)})
	record := store.Host{Name: fmt.Sprintf("peer%04d", o.number), VTEP: vtep, MTU: 1500, Started: time.Now()}
	if err := o.c.PutHost(ctx, record); err != nil {
		return fmt.Errorf("record of host %d: %w", o.number, err)
	}
	id := o.c.Host()
	if err := o.c.KV().Apply(ctx, store.Op{Kind: store.OpPut, Key: store.AliveKey(id), Value: []byte(id)}); err != nil {
		return fmt.Errorf("sign of life of host %d: %w", o.number, err)
	}
	return nil
}

// restart is a restart of the host's agent: its session ends, and it publishes again what it has.
func (o *peer) restart(ctx context.Context) error {
	if err := o.c.KV().Apply(ctx, store.Op{Kind: store.OpRemove, Key: store.AliveKey(o.c.Host())}); err != nil {
		return fmt.Errorf("sign of life of host %d: %w", o.number, err)
	}
	if err := o.begin(ctx); err != nil {
		return err
	}
	return o.publish(ctx, 0)
}

// update starts one more container on the host, and returns its MAC.
func (o *peer) update(ctx context.Context) (mac string, err error) {
	e := o.endpoint(macUpdate)
	o.endpoints = append(o.endpoints, e)
	return e.MAC, o.publish(ctx, 0)
}

// publish writes the host's endpoints, with some more.
func (o *peer) publish(ctx context.Context, more int) error {
	for range more {
		o.endpoints = append(o.endpoints, o.endpoint(macPeer))
	}
	if err := o.c.PutEndpoints(ctx, o.network, o.endpoints); err != nil {
		return fmt.Errorf("endpoints of host %d: %w", o.number, err)
	}
	return nil
}

// endpoint is a further one of the host.
func (o *peer) endpoint(prefix string) store.Endpoint {
	number := o.number*spread + len(o.endpoints)
	at := local.Addr().As4()
	addr := netip.AddrFrom4([4]byte{at[0], at[1] + 1 + byte(number>>16), byte(number >> 8), byte(number)})
	return store.Endpoint{ID: libnetwork.ID("peer", number), MAC: libnetwork.MAC(prefix, number), Addrs: []netip.Addr{addr}, MTU: 1450}
}
