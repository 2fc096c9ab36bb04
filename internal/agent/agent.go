// Package agent puts the parts together: it is the only package that imports all of them,
// and owns the order in which they start and stop. It knows no protocol.
//
// The order: the host's own store first, for everything else is told by it; then the data
// plane is given every network that it remembers, so that running containers keep talking whatever else is
// missing; then Docker's socket is served. Neither Open vSwitch nor the cluster's store is
// waited for: handlers say what is missing.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/internal/reconcile"
	"github.com/socketplane/socketplane/internal/subnets"
	"github.com/socketplane/socketplane/internal/underlay"
	"github.com/socketplane/socketplane/internal/version"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/store"
)

// Options are what is not configuration.
type Options struct {
	Version version.Info
	Logger  *slog.Logger
	// Recent gives the last lines of the log, for bug reports; nil if they are not kept.
	Recent func() []byte
	// V1Socket is a second socket for Docker, if not empty: a managed plugin's, where the host's Docker finds plain names.
	V1Socket string
}

// agent is a running agent.
type agent struct {
	cfg      config.Config
	opts     Options
	log      *slog.Logger
	started  time.Time
	id       string // of this host
	local    store.KV
	journal  *journal.Journal
	storage  storage
	cluster  *store.Cluster
	presence gate        // of what makes this host part of the cluster
	resync   atomic.Bool // the cluster may know other things of this host than before
	links    *hostlink.Links
	underlay *underlay.Tracker
	sw       *ovsctl.Switch
	plane    *reconcile.Reconciler
	ipam     *ipamdriver.Driver
	driver   *driver.Driver
	docker   *dockerwatch.Watcher // nil without Docker's API
	mirror   *mirror.Mirror       // nil without Docker's API
	subnets  *subnets.Tracker
	metrics  *metrics
	server   *plugin.Server

	publishing sync.Mutex  // guards written
	written    *store.Host // this host's record, as this agent wrote it last; nil if it did not yet

	synced atomic.Int64 // when the cluster's records were last found or made true, in nanoseconds since 1970; 0 for never
}

// Run runs the agent until ctx ends, and then lets handlers finish. Containers keep
// talking afterwards: ports, flows and devices stay.
func Run(ctx context.Context, cfg config.Config, opts Options) error {
	a := &agent{cfg: cfg, opts: opts, log: opts.Logger, started: time.Now().UTC(), metrics: newMetrics()}
	defer a.close()
	for _, w := range cfg.Warnings() {
		a.log.Warn(w)
	}
	if err := a.open(ctx); err != nil {
		return err
	}
	at := a.where()
	// Before anything that may take a moment: a call that comes early waits, and is not refused. Docker looks for a managed plugin's socket
	// as soon as its process runs, and then only every 3 s.
	pluginSockets, adminSocket, err := a.listen()
	if err != nil {
		return err
	}
	if err := a.build(ctx); err != nil {
		for _, l := range append(pluginSockets, adminSocket) {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	a.log.Info("agent is up", "version", opts.Version.Version, "host", cfg.Name, "id", a.cluster.Host(),
		"vtep", a.where().Addr, "store", a.storage.kind, "address", a.storage.address)

	group, ctx := errgroup.WithContext(ctx)
	run := func(f func(context.Context) error) {
		group.Go(func() error {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		})
	}
	if a.storage.managed != nil {
		run(a.storage.managed.Run)
	}
	run(a.underlay.Run)
	run(func(ctx context.Context) error {
		a.followUnderlay(ctx, at)
		return nil
	})
	run(a.keepUntracked)
	run(a.plane.Run)
	run(a.driver.Run)
	run(func(ctx context.Context) error { return a.presence.run(ctx, a.announce) })
	run(func(ctx context.Context) error { return a.presence.run(ctx, a.subnets.Run) })
	run(a.syncLoop)
	run(a.ipam.Run)
	janitor := newJanitor(a.cluster, cfg.HostExpiry, cfg.GarbageGrace, a.log)
	if a.storage.managed != nil {
		janitor.remove = a.storage.managed.Forget
	}
	run(janitor.run)
	if a.mirror != nil {
		run(a.docker.Run)
		run(func(ctx context.Context) error { return a.presence.run(ctx, a.mirror.Run) })
	}
	run(func(ctx context.Context) error {
		return a.server.Serve(ctx, pluginSockets...)
	})
	run(func(ctx context.Context) error { return adminapi.Serve(ctx, adminSocket, a, a.log) })
	if cfg.MetricsAddr != "" {
		run(a.serveMetrics)
	}
	err = group.Wait()
	if err == nil && a.isPlugin() {
		a.leaveNothing()
	}
	return err
}

// settleTime is how long after the agent's start calls of Docker that need the data plane wait for its first breath.
const settleTime = 8 * time.Second

// settle waits until packets can be forwarded, for a while after the agent's start.
func (a *agent) settle(ctx context.Context) {
	timer := time.NewTimer(time.Until(a.started.Add(settleTime)))
	defer timer.Stop()
	select {
	case <-a.plane.Up():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// open opens this host's state, and the cluster's store without asking it anything.
func (a *agent) open(ctx context.Context) (err error) {
	if a.local, err = openLocal(a.cfg.StateDir); err != nil {
		return err
	}
	a.local = a.metrics.measured(a.local, storeLocal)
	id, err := hostID(ctx, a.local)
	if err != nil {
		return err
	}
	if a.links, err = hostlink.New(hostlink.Options{Logger: a.log}); err != nil {
		return err
	}
	a.underlay = underlay.New(a.links, underlay.Options{Advertise: a.cfg.Advertise, Logger: a.log})
	a.underlay.Look(ctx)
	if u, err := a.underlay.Current(); !u.Addr.IsValid() {
		return err
	}
	a.storage, err = a.openCluster(ctx, id)
	a.id = id
	return err
}

// switchPatience is how long a start waits for the switch's first answer: local sockets answer at once, or not for a while.
const switchPatience = 300 * time.Millisecond

// build makes all parts. None of them waits for Open vSwitch, Docker or the cluster's store, but for a moment each.
func (a *agent) build(ctx context.Context) (err error) {
	if err = guardCluster(ctx, &a.storage); err != nil {
		return err
	}
	a.cluster = store.NewCluster(a.metrics.measured(a.storage.kv, storeCluster), a.id)
	soon, cancel := context.WithTimeout(ctx, switchPatience)
	defer cancel()
	a.sw, err = ovsctl.Connect(soon, ovsctl.Options{Endpoint: a.cfg.OVSDB, Bridge: config.Bridge, Logger: a.log})
	if err != nil {
		return err
	}
	tunnel := dataplane.TunnelKind(a.cfg.Tunnel)
	if a.cfg.Tunnel == config.TunnelAuto {
		tunnel = ""
	}
	a.plane = reconcile.New(a.sw, a.links, reconcile.Options{
		Tunnel: tunnel, VXLANPort: a.cfg.VXLANPort, Host: a.id, Underlay: a.where(), Logger: a.log,
	})
	if a.journal, err = openJournal(a.cfg.StateDir, a.log); err != nil {
		return err
	}
	var pools []ipamdriver.PoolRange
	for _, r := range a.cfg.Ranges() {
		pools = append(pools, ipamdriver.PoolRange(r))
	}
	swarmSpace := ""
	if a.cfg.Scope == config.ScopeGlobal {
		swarmSpace = plugin.GlobalAddressSpace
	}
	a.ipam = ipamdriver.New(a.cluster, a.local, ipamdriver.Options{
		Pools: pools, Subnets: a.links.Subnets, Journal: a.journal, SwarmSpace: swarmSpace, Logger: a.log,
	})
	a.driver, err = driver.New(ctx, driver.Deps{
		Cluster: a.cluster, Local: a.local, Dataplane: a.plane, Addresses: a.ipam,
	}, driver.Options{
		AddressSpace: plugin.LocalAddressSpace, EngineAPI: a.engineAPI, Admit: a.admit, Judged: a.cfg.DockerHost != config.DockerNone, Logger: a.log,
	})
	if err != nil {
		return err
	}
	if err := a.ipam.Restore(ctx, a.driver.Held()); err != nil {
		return err
	}
	a.driver.Replay(ctx)
	a.buildMirror()
	a.server = plugin.New(joining{plugin.Settled(a.driver, a.settle), a.subnets.Joining}, admitted{a.ipam, a}, plugin.Options{
		Scope: string(a.cfg.Scope), Logger: a.log, Observe: a.metrics.observe, Caller: callerOf,
	})
	a.metrics.collect(a)
	return nil
}

// engineAPI is the API version of this host's Docker Engine, "" while it is not known.
func (a *agent) engineAPI() string {
	if a.docker == nil {
		return ""
	}
	return a.docker.APIVersion()
}

// buildMirror makes what talks to Docker's API; that is optional.
func (a *agent) buildMirror() {
	if a.cfg.DockerHost == config.DockerNone {
		a.buildSubnets()
		return
	}
	a.docker = dockerwatch.New(a.cfg.DockerHost, dockerwatch.Options{
		Driver: mirror.DriverName, Logger: a.log, Wake: func() { a.mirror.Wake(); a.subnets.Wake() },
	})
	a.buildSubnets()
	first := mirror.Default{Name: a.cfg.DefaultNetwork, Subnet: a.cfg.DefaultSubnet}
	if first.Name == config.NetworkNone {
		first.Name = ""
	}
	a.mirror = mirror.New(a.cluster, a.driver, a.docker, mirror.Options{
		Follow: a.cfg.Mirror, Default: first, Uses: a.subnets.Uses, Pools: a.ipam, Propose: a.ipam.Propose, Local: a.local, Lives: a.engine().Lives, Logger: a.log,
		Times: mirror.Usual().Within(a.cfg.GarbageGrace),
	})
}

// listen opens the sockets. systemd may have opened the plugin's already.
func (a *agent) listen() (forDocker []net.Listener, forAdmin net.Listener, err error) {
	defer func() {
		if err != nil {
			for _, l := range forDocker {
				err = errors.Join(err, l.Close())
			}
		}
	}()
	activated, err := plugin.Activated("socketplane.socket")
	if err != nil {
		return nil, nil, err
	}
	forDocker = activated
	var paths []string
	if a.opts.V1Socket != "" {
		// First: Docker waits for a managed plugin's own socket, and then boots with networks that need this one.
		paths = append(paths, a.opts.V1Socket)
	}
	if len(activated) == 0 {
		paths = append(paths, a.cfg.PluginSocket)
	}
	for _, path := range paths {
		l, err := plugin.Listen(path)
		if err != nil {
			return forDocker, nil, err
		}
		forDocker = append(forDocker, l)
	}
	forAdmin, err = a.listenAdmin()
	return forDocker, forAdmin, err
}

// listenAdmin opens the command line's socket, unless systemd did, which then also says who may use it.
func (a *agent) listenAdmin() (net.Listener, error) {
	activated, err := plugin.Activated("socketplane-admin.socket")
	switch {
	case err != nil:
		return nil, err
	case len(activated) == 0:
		return plugin.Listen(a.cfg.AdminSocket)
	}
	return activated[0], nil
}

// Pauses of the loop that finishes what handlers could not.
const (
	syncSoon  = 2 * time.Second
	syncEvery = time.Minute
)

// syncLoop finishes what handlers could not, soon while there is something and now and then anyway.
func (a *agent) syncLoop(ctx context.Context) error {
	last := time.Time{}
	ticker := time.NewTicker(syncSoon)
	defer ticker.Stop()
	for {
		if a.resync.Swap(false) || a.pending(ctx) || time.Since(last) > syncEvery {
			passCtx, cancel := context.WithTimeout(ctx, syncEvery)
			err := errors.Join(a.driver.Sync(passCtx), a.ipam.Sync(passCtx))
			cancel()
			if err != nil && ctx.Err() == nil {
				a.log.Warn("something is left to be finished", "err", err)
			} else {
				last = time.Now()
				a.synced.Store(last.UnixNano())
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// lastSync is when the cluster's records were last found or made true; zero for never.
func (a *agent) lastSync() time.Time {
	if at := a.synced.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

func (a *agent) pending(ctx context.Context) bool {
	waits, err := a.ipam.Pending(ctx)
	return waits || err != nil || a.driver.Pending()
}

func (a *agent) close() {
	var errs []error
	if a.sw != nil {
		a.sw.Close()
	}
	if a.links != nil {
		errs = append(errs, a.links.Close())
	}
	if a.storage.kv != nil {
		errs = append(errs, a.storage.kv.Close())
	}
	if a.storage.managed != nil {
		errs = append(errs, a.storage.managed.Close())
	}
	if a.journal != nil {
		errs = append(errs, a.journal.Close())
	}
	if a.local != nil {
		errs = append(errs, a.local.Close())
	}
	if err := errors.Join(errs...); err != nil {
		a.log.Warn("not everything was closed", "err", err)
	}
}
