// Package agent puts the parts together: it is the only package that imports all of them,
// and owns the order in which they start and stop. It knows no protocol.
//
// The order: the sockets are served first, by a supervisor that refuses calls with the cause for as long as the agent can't start (no address,
// unreadable state, full disk, newer data), and tries again. An agent opens the host's own store, for everything else is told by it; then the data
// plane is given every network that it remembers, so that running containers keep talking whatever else is
// missing; then calls are answered. Neither Open vSwitch nor the cluster's store is
// waited for: handlers say what is missing.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/checkup"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/finish"
	"github.com/socketplane/socketplane/internal/gate"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/janitor"
	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/internal/membership"
	"github.com/socketplane/socketplane/internal/metrics"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/operator"
	"github.com/socketplane/socketplane/internal/presence"
	"github.com/socketplane/socketplane/internal/restart"
	"github.com/socketplane/socketplane/internal/roster"
	"github.com/socketplane/socketplane/internal/settle"
	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/internal/subnets"
	"github.com/socketplane/socketplane/internal/support"
	"github.com/socketplane/socketplane/internal/tunnels"
	"github.com/socketplane/socketplane/internal/underlay"
	"github.com/socketplane/socketplane/internal/version"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
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
	// What answers the command line.
	*operator.Operator
	*operator.Self
	*membership.Membership
	*checkup.Checkup
	*support.Writer

	cfg      config.Config
	opts     Options
	log      *slog.Logger
	started  time.Time // the process
	id       string    // of this host
	local    store.KV
	damage   *bolt.Damage      // files that an earlier attempt found damaged
	opened   []doctor.OpenFile // files of the state directory
	journal  *journal.Journal
	storage  storage
	cluster  *store.Cluster
	presence *presence.Presence
	member   gate.Gate   // of what makes this host part of the cluster
	resync   atomic.Bool // the cluster may know other things of this host than before
	links    *hostlink.Links
	underlay *underlay.Tracker
	sw       *ovsctl.Switch
	plane    *ovs.Plane
	ipam     *ipamdriver.Driver
	view     *netview.View
	driver   *driver.Driver
	docker   *dockerwatch.Watcher // nil without Docker's API
	mirror   *mirror.Mirror       // nil without Docker's API
	subnets  *subnets.Tracker
	roster   *roster.Roster
	janitor  *janitor.Janitor
	metrics  *metrics.Process
	// network and addresses are the drivers, as Docker calls them.
	network   plugin.NetworkDriver
	addresses plugin.IPAMDriver
	admin     http.Handler
	// collected are the metrics of this agent's parts.
	collected *prometheus.Registry
	users     sync.WaitGroup // calls that are being answered
	// refused says that Docker was refused something, starved that the reason was the store; served is what is wrong with the process's sockets.
	refused, starved *atomic.Bool
	served           func() error

	// networks are this host's, for people and metrics.
	networks func() []netview.Network

	synced atomic.Int64 // when nothing was left to be told to the store, and it answered last, in nanoseconds since 1970; 0 for never
}

// run runs what the agent does by itself, until ctx ends or a part fails.
func (a *agent) run(ctx context.Context) error {
	at := a.where() // that the parts were made with
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
	run(tunnels.Keeper{Underlay: a.underlay, VXLANPort: a.cfg.VXLANPort, Track: a.cfg.TrackTunnels, Port: a.TunnelPort().Check(), Logger: a.log}.Run)
	run(a.plane.Run)
	run(a.view.Run)
	run(a.driver.Run)
	run(func(ctx context.Context) error { return a.member.Run(ctx, a.presence.Run) })
	run(func(ctx context.Context) error { return a.member.Run(ctx, a.subnets.Run) })
	run(a.finisher().Run)
	run(a.ipam.Run)
	run(a.roster.Run)
	run(a.janitor.Run)
	if a.mirror != nil {
		run(a.docker.Run)
		starter := restart.Starter{
			Docker: a.docker, Ready: a.plane.Ready, Answers: a.storeAnswers, Refused: a.refused, Starved: a.starved, NotReady: NotReady, Logger: a.log,
		}
		run(starter.Run)
		run(func(ctx context.Context) error { return a.member.Run(ctx, a.mirror.Run) })
	}
	return group.Wait()
}

// open opens this host's state, and the cluster's store without asking it anything.
func (a *agent) open(ctx context.Context) (err error) {
	// First, as it costs least and is missing most often.
	if a.links, err = hostlink.New(hostlink.Options{Logger: a.log}); err != nil {
		return err
	}
	a.underlay = underlay.New(a.links, underlay.Options{Advertise: a.cfg.Advertise, Logger: a.log})
	a.underlay.Look(ctx)
	if u, err := a.underlay.Current(); !u.Addr.IsValid() {
		return err
	}
	if a.local, err = statedir.OpenLocal(a.cfg.StateDir, a.damage); err != nil {
		return err
	}
	a.opened = doctor.Opened(filepath.Join(a.cfg.StateDir, statedir.LocalFile))
	a.local = a.metrics.Measured(a.local, metrics.StoreLocal)
	if a.id, err = statedir.HostID(ctx, a.local); err != nil {
		return err
	}
	if a.journal, err = statedir.OpenJournal(a.cfg.StateDir, a.log); err != nil {
		return err
	}
	a.storage, err = a.openCluster(ctx, a.id)
	return err
}

// switchPatience is how long a start waits for the switch's first answer: local sockets answer at once, or not for a while.
const switchPatience = 300 * time.Millisecond

// build makes all parts. None of them waits for Open vSwitch, Docker or the cluster's store, but for a moment each.
func (a *agent) build(ctx context.Context) (err error) {
	if err = guardCluster(ctx, &a.storage); err != nil {
		return err
	}
	a.cluster = store.NewCluster(a.metrics.Measured(a.storage.kv, metrics.StoreCluster), a.id)
	a.buildRoster()
	a.buildPresence()
	if err = a.presence.Claim(ctx); err != nil && !errors.Is(err, presence.ErrUnknown) {
		return err
	}
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
	a.plane = ovs.New(a.sw, a.links, ovs.Options{
		Tunnel: tunnel, VXLANPort: a.cfg.VXLANPort, Host: a.id, Underlay: a.where(), Logger: a.log,
	})
	var pools []ipamdriver.PoolRange
	for _, r := range a.cfg.Ranges() {
		pools = append(pools, ipamdriver.PoolRange(r))
	}
	swarmSpace := ""
	if a.cfg.Scope == config.ScopeGlobal {
		swarmSpace = plugin.GlobalAddressSpace
	}
	a.ipam = ipamdriver.New(a.cluster, a.local, ipamdriver.Options{
		Pools: pools, Subnets: a.links.Subnets, HalfDefaults: a.links.HalfDefaults, EngineAPI: a.engineAPI, Journal: a.journal, SwarmSpace: swarmSpace, Logger: a.log,
	})
	if a.view, err = netview.New(ctx, netview.Deps{Cluster: a.cluster, Roster: a.roster, Local: a.local, OwnRecord: a.presence.OwnRecord, Logger: a.log}); err != nil {
		return err
	}
	a.driver, err = driver.New(ctx, driver.Deps{
		Cluster: a.cluster, Local: a.local, View: a.view, Dataplane: a.plane, Addresses: a.ipam,
	}, driver.Options{
		AddressSpace: plugin.LocalAddressSpace, EngineAPI: a.engineAPI, Admit: a.admit, HasLink: a.links.Has, Judged: a.cfg.DockerHost != config.DockerNone, Logger: a.log,
		Named: a.cfg.DockerHost != config.DockerNone && a.cfg.Mirror,
	})
	if err != nil {
		return err
	}
	if err := a.ipam.Restore(ctx, a.driver.Held()); err != nil {
		return err
	}
	a.driver.Replay(ctx)
	a.networks = a.view.Networks
	a.buildMirror()
	a.buildOperator()
	settler := settle.Settler{
		Began: time.Now(), Up: a.plane.Up, Starts: a.cfg.OVSDB == config.OwnOVSDB && a.isPlugin(), Socket: strings.TrimPrefix(a.cfg.OVSDB, "unix:"),
	}
	a.network, a.addresses = joining{plugin.Settled(a.driver, settler.Wait), a.subnets.Joining}, admitted{a.ipam, a}
	a.admin = adminapi.Handler(a)
	a.collected = metrics.Collect(a.counted())
	if a.storage.kind == config.StoreBolt {
		a.log.Warn("this host is alone: its networks reach no other host; install consul and set --store cluster, or give --consul-addr, to join others",
			"store", a.storage.address)
	}
	return nil
}

// buildRoster makes what follows the cluster's hosts, from which the cluster knows them then, and what removes those that are gone.
func (a *agent) buildRoster() {
	a.roster = roster.New(a.cluster.HostRecords, roster.Options{Logger: a.log, Back: func() {
		a.resync.Store(true)
		a.janitor.Again()
	}})
	a.cluster = a.cluster.WithHosts(a.roster.Hosts)
	opts := janitor.Options{Expiry: a.cfg.HostExpiry, Grace: a.cfg.GarbageGrace, Members: a.roster.Members, Logger: a.log}
	if a.storage.managed != nil {
		opts.Remove = a.storage.managed.Forget
	}
	a.janitor = janitor.New(a.cluster, opts)
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
		Driver: mirror.DriverName, Logger: a.log, Heard: func(e dockerwatch.Event) { a.mirror.Heard(e); a.subnets.Heard(e) },
	})
	a.buildSubnets()
	first := mirror.Default{Name: a.cfg.DefaultNetwork, Subnet: a.cfg.DefaultSubnet}
	if first.Name == config.NetworkNone {
		first.Name = ""
	}
	a.mirror = mirror.New(a.cluster, a.driver, a.docker, mirror.Options{
		Follow: a.cfg.Mirror, Default: first, Uses: a.subnets.Uses, Pools: a.ipam, Propose: a.ipam.Propose, Local: a.local, Lives: a.engine().Lives, Logger: a.log,
		Times: mirror.Usual().Within(a.cfg.GarbageGrace), Again: func() { a.resync.Store(true) },
	})
}

// lastSync is when nothing was left to be told to the store, and it answered last; zero for never.
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

// finisher finishes what handlers of this agent could not.
func (a *agent) finisher() *finish.Finisher {
	return &finish.Finisher{
		Sync:    func(ctx context.Context) error { return errors.Join(a.driver.Sync(ctx), a.ipam.Sync(ctx)) },
		Pending: a.pending, Answers: a.storeAnswers, Resync: &a.resync, Logger: a.log,
		Done: func(at time.Time) { a.synced.Store(at.UnixNano()) },
	}
}

// storeAnswers asks the cluster's store for one small record.
func (a *agent) storeAnswers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finish.Soon)
	defer cancel()
	_, err := a.cluster.KV().Get(ctx, store.IdentityKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
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
