package cluster

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/consulproc"
	"github.com/socketplane/socketplane/internal/cluster/discovery"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// Options of New. Host, Name, Addr, Dev, Port, Dir, Consul and Logger must be set.
type Options struct {
	// Host is this host's id, Name what people call it.
	Host, Name string
	// Addr is the address that others reach, Dev the interface that has it, both until Move. Without a valid Addr, Run waits for it.
	Addr netip.Addr
	Dev  string
	// Port is the first of the four that are used.
	Port uint16
	// Dir is a directory of the cluster's own.
	Dir string
	// File is where this host keeps networks that it has and no cluster does; a cluster that it joins gets them. It may be absent.
	File string
	// Damage remembers that the file is damaged over several attempts to start; nil for one attempt.
	Damage *bolt.Damage
	// Consul is the path of the consul program.
	Consul string
	// Join are addresses, HOST:PORT, of hosts whose cluster this one joins. With any it founds none by itself.
	Join []string
	// Silent does without mDNS: this host neither hears others nor is heard.
	Silent bool
	// Token gives what opens a locked cluster, nil for nothing. It is asked whenever the host asks to be admitted.
	Token func() (*trust.Token, error)
	// Locked: a cluster that this host founds admits with a token only. Founded is told of one.
	Locked  bool
	Founded func(ctx context.Context, cluster *store.Cluster, keys store.Keys) error
	// Grace is how long a server may be down before another host takes its place; 0 means 30 s.
	Grace time.Duration
	// Farewell removes what the host has in the store, before it leaves, and lets nothing be put there any more. It is repeated until it
	// succeeds, but for a host that is forced to leave.
	Farewell func(ctx context.Context, force bool) error
	// Entered is called when the store of a cluster that this host stays in answers for the first time.
	Entered   func()
	Lifetimes trust.Lifetimes
	Logger    *slog.Logger
	// former makes the host one whose agent is older than store.Keys.Split, for tests of upgrades.
	former bool
	// lookup is net.Resolver.LookupNetIP for tests; nil for the host's.
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// ports beside Options.Port, which is that of admission.
const (
	rpcPort = iota + 1
	gossipPort
	httpsPort
)

const defaultGrace = 30 * time.Second

// Cluster is this host's place in a cluster. All methods may be called concurrently.
type Cluster struct {
	opts    Options
	log     *slog.Logger
	keeper  *trust.Keeper
	records *records
	disco   *discovery.Service
	kv      *KV
	wake    chan struct{}

	mu      sync.Mutex
	wishes  []*wish
	carry   store.KV           // nil unless there are networks in Options.File
	next    *trust.Credentials // of the cluster to which this host moves
	status  Status
	told    retry.Trouble // logs status.Trouble
	session *session      // nil outside
	place   place         // where this host is to be
	lives   netip.Addr    // where it is
}

// New opens what the host remembers. It starts nothing.
func New(opts Options) (*Cluster, error) {
	if opts.Grace <= 0 {
		opts.Grace = defaultGrace
	}
	c := &Cluster{opts: opts, lives: opts.Addr, log: opts.Logger, kv: newKV(), wake: make(chan struct{}, 1)}
	c.told = retry.Trouble{Logger: opts.Logger, Level: slog.LevelWarn, Text: "cluster: something is in the way, and is tried again", Steady: troubleSteady}
	c.place = place{addr: opts.Addr, dev: opts.Dev, moved: make(chan struct{})}
	var err error
	if c.records, err = openRecords(opts.Dir); err != nil {
		return nil, err
	}
	if c.keeper, err = trust.Open(opts.Dir, opts.Lifetimes); err != nil {
		return nil, err
	}
	if err := c.unfinished(); err != nil {
		return nil, err
	}
	if err := c.openCarry(); err != nil {
		return nil, err
	}
	c.disco = discovery.New(discovery.Options{Host: opts.Host, Dev: opts.Dev, Addr: opts.Addr, Wake: c.poke, Logger: opts.Logger})
	return c, nil
}

// KV is the cluster's store. It is there from the start, and stays the same whatever happens to the cluster.
func (c *Cluster) KV() store.KV { return c.kv }

// retryPause is between tries of what failed.
const retryPause = time.Second

func (c *Cluster) loop(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		switch {
		case c.records.get().Ending:
			err = c.finish()
		case c.keeper.Credentials().Cluster() == "":
			if next := c.takeNext(); next != nil {
				err = c.enter(*next)
				break
			}
			err = c.outside(ctx)
		default:
			err = c.inside(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.trouble(err)
			sleep(ctx, retryPause)
		}
	}
}

func (c *Cluster) takeNext() *trust.Credentials {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.next
	c.next = nil
	return next
}

// Close closes what New has opened. Run must have ended.
func (c *Cluster) Close() error {
	if kv := c.carrying(); kv != nil {
		return kv.Close()
	}
	return nil
}

// finish removes what the host has of the cluster that it is not in any more.
func (c *Cluster) finish() error {
	c.rest("this host has left its cluster")
	dir := c.consulDir()
	if err := consulproc.Kill(dir); err != nil {
		return err
	}
	if err := errors.Join(consulproc.Forget(dir), c.keeper.Forget()); err != nil {
		return err
	}
	return c.records.change(func(r *record) { *r = record{Alone: r.Alone} })
}

// Kill ends the Consul that an agent with this directory has left running.
func Kill(dir string) error { return consulproc.Kill(filepath.Join(dir, consulFiles)) }

func (c *Cluster) consulDir() string { return filepath.Join(c.opts.Dir, consulFiles) }

// consulFiles is where Consul's files are, below ours.
const consulFiles = "consul"

// poke lets whoever waits look again.
func (c *Cluster) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *Cluster) subject() trust.Subject { return trust.Subject{ID: c.opts.Host, Addr: c.addr()} }

// trusts is store.Member.Trust of this host.
func (c *Cluster) trusts() int {
	if c.opts.former {
		return 0
	}
	return store.TrustLeaf
}

// self is this host as others have to know it.
func (c *Cluster) self() trust.Peer {
	return trust.Peer{ID: c.opts.Host, Name: c.opts.Name, Addr: netip.AddrPortFrom(c.addr(), c.opts.Port), Key: c.keeper.Identity().Fingerprint()}
}

// announce says what this host is.
func (c *Cluster) announce(state discovery.State, cluster string, locked bool) {
	c.disco.Announce(discovery.Announcement{
		Host: c.opts.Host, Name: c.opts.Name, State: state, Cluster: cluster, Locked: locked, Addr: c.addr(), Port: c.opts.Port,
	})
}

// sleep waits for a while or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// await waits for a while, until ctx ends, or until somebody pokes.
func (c *Cluster) await(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-c.wake:
	}
}
