package checkup

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/underlay"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/store"
)

// Parts are the parts of an agent that are looked at. Its functions may be called concurrently.
type Parts struct {
	Config config.Config
	// Version is the agent's, Started when its process did. V1Socket is the managed plugin's second socket, "" for an agent that is a service.
	Version  string
	Started  time.Time
	V1Socket string
	// Opened are the files of the state directory that it has open.
	Opened []doctor.OpenFile
	// Served is what is wrong with the process's sockets; nil if nothing is.
	Served func() error
	// Kind and Address say where the cluster's state is. Membership is nil where the host forms no cluster by itself.
	Kind       config.StoreKind
	Address    string
	Membership func(context.Context) (adminapi.ClusterStatus, error)
	Cluster    *store.Cluster
	// Copied is the machine that has asked for this host's id of late; nil if none has.
	Copied func() *doctor.Copy
	Links  *hostlink.Links
	// Underlay is where tunnels end.
	Underlay func() (underlay.Underlay, error)
	Switch   *ovsctl.Switch
	Plane    *ovs.Plane
	Driver   *driver.Driver
	View     *netview.View
	Docker   *dockerwatch.Watcher // nil without Docker's API
	Mirror   *mirror.Mirror       // nil without Docker's API
	// Outward is the link by which containers leave this host, and its MTU in bytes.
	Outward func(context.Context) (dev string, mtu int, err error)
	// Networks are those of this host; it waits for no handler.
	Networks func() []netview.Network
	// Pending says whether something waits for the store or the switch.
	Pending func(context.Context) bool
	// MTUTroubles are the networks and containers with another MTU than all hosts can carry, a line each.
	MTUTroubles func(context.Context) ([]string, error)
}

// Checkup makes all checks of an agent that runs. Its methods may be called concurrently.
type Checkup struct{ parts Parts }

// New returns the checks of these parts.
func New(parts Parts) *Checkup { return &Checkup{parts} }

// Doctor looks at everything that this host needs.
func (c *Checkup) Doctor(ctx context.Context) ([]adminapi.Check, error) {
	return doctor.Run(ctx, c.checks(ctx)), nil
}

// checks are all checks, in the order of doctor.Names. What several of them ask of the cluster's store is asked once.
func (c *Checkup) checks(ctx context.Context) []doctor.Check {
	members := once(ctx, c.parts.Cluster.Hosts)
	peers := once(ctx, func(ctx context.Context) ([]doctor.Peer, error) { return c.peers(ctx, members) })
	sw, tunnel := c.lookedSwitch(), c.tunnelChecks()
	return []doctor.Check{
		c.self(),
		doctor.Versions(c.parts.Version, peers),
		doctor.HostNames(c.parts.Config.Name, c.parts.Cluster.Host(), peers),
		doctor.Identity(c.parts.Cluster.Host(), c.notAsked(), c.parts.Copied, func(ctx context.Context) error {
			_, err := members(ctx)
			return err
		}),
		doctor.KernelModule(doctor.Files{}, c.parts.Links.HasKernelDatapath),
		sw.Daemons(),
		doctor.Bridge(config.Bridge, c.bridgeState),
		sw.Offload(),
		doctor.Address{Links: doctor.HostLinks, Underlay: c.lookedUnderlay, Hosts: peers, Stations: stations, Restart: c.restartSelf()}.Check(),
		tunnel[0], tunnel[1], tunnel[2], tunnel[3],
		doctor.Forwarding(doctor.Files{}, doctor.HostLinks, c.parts.Outward),
		doctor.ReversePath(doctor.Files{}, c.lookedUnderlay, peers, c.parts.Links.WayTo, c.parts.Links.Loopback),
		doctor.Gateway(doctor.HostLinks, c.parts.Outward, c.madeGateway()),
		doctor.Conntrack(doctor.Files{}),
		doctor.Limits(doctor.Files{}),
		doctor.Store(doctor.StoreDeps{Links: doctor.HostLinks, Ask: askConsul, Kind: string(c.parts.Kind), Address: c.parts.Address, Own: c.parts.Membership != nil,
			Alone: c.parts.Kind == config.StoreBolt, Host: c.parts.Cluster.Host(), Members: members, Log: c.ownLog()}),
		doctor.Cluster(c.parts.Membership),
		c.lookedClocks(peers),
		c.lookedDocker().Check(),
		doctor.Sight{DockerHost: c.parts.Config.DockerHost, PluginSocket: c.parts.Config.PluginSocket, Managed: c.isPlugin()}.Check(),
		doctor.Sockets(c.sockets(), c.restartSelf()),
		doctor.StateDir(doctor.Files{}, c.parts.Config.StateDir, c.parts.Opened, c.restartSelf()),
		doctor.Stale(c.stale),
		doctor.Networks(c.notMirrored(), c.networkTroubles, c.compared),
		doctor.Published(c.unpublished, c.ownLog()),
		doctor.Subnets(doctor.HostLinks, c.lookedNetworks, ourLink),
		c.lookedWay(peers).Check(),
	}
}

// once asks at most once, on behalf of all who want to know. It answers within storeAnswer.
func once[T any](ctx context.Context, ask func(context.Context) (T, error)) func(context.Context) (T, error) {
	asked := sync.OnceValues(func() (T, error) {
		ctx, cancel := context.WithTimeout(ctx, storeAnswer)
		defer cancel()
		return ask(ctx)
	})
	return func(context.Context) (T, error) { return asked() }
}

// storeAnswer is how long the store may take to answer a check; checks end a second later.
const storeAnswer = 4 * time.Second

// self tells that this agent runs, or which of the process's sockets can't be served.
func (c *Checkup) self() doctor.Check {
	if err := c.parts.Served(); err != nil {
		return doctor.Start("it runs, but "+strings.ReplaceAll(err.Error(), "\n", "; "), "as said; it is tried again every few seconds, without a restart")
	}
	return doctor.AgentUp(doctor.Files{}, c.parts.Version, c.parts.Started)
}

// where is the underlay in use; its Addr is invalid while the host has had no address.
func (c *Checkup) where() underlay.Underlay {
	u, _ := c.parts.Underlay()
	return u
}

// isPlugin says whether this is Docker's managed plugin, which no service of systemd's is.
func (c *Checkup) isPlugin() bool { return c.parts.V1Socket != "" }

func (c *Checkup) lookedUnderlay() doctor.Underlay {
	u, err := c.parts.Underlay()
	return doctor.Underlay{Addr: u.Addr, Dev: u.Dev, MTU: u.MTU, Err: err}
}

func (c *Checkup) lookedSwitch() doctor.Switch {
	return doctor.Switch{Files: doctor.Files{Contained: c.isPlugin()}, DB: strings.TrimPrefix(c.parts.Config.OVSDB, "unix:"), Mgmt: c.parts.Switch.MgmtPath(), Restart: c.restartSwitch(), Log: c.ownLog(),
		Plane: func(ctx context.Context) doctor.Plane {
			st := c.parts.Plane.Status()
			return doctor.Plane{Version: c.parts.Switch.Version(ctx), Datapath: st.Datapath, Tunnel: string(st.Tunnel), TSO: st.TSO, Flows: st.Flows, Err: st.Err,
				Unreached: Unreached(st, c.parts.Networks)}
		}}
}

func (c *Checkup) bridgeState(ctx context.Context) (doctor.BridgeState, error) {
	row, err := c.parts.Switch.BridgeRow()
	if err != nil {
		return doctor.BridgeState{}, err
	}
	if row == nil {
		return doctor.BridgeState{}, errors.New("there is no bridge " + config.Bridge + " yet")
	}
	drift := c.parts.Plane.Status().Drift
	s := doctor.BridgeState{Controllers: len(row.Controller), Mended: drift.Flows, Last: drift.FlowsAt}
	if row.FailMode != nil {
		s.FailMode = *row.FailMode
	}
	if s.Ports, err = c.parts.Switch.ForeignPorts(); err != nil {
		return s, err
	}
	ours := 0
	if ours, s.Flows, err = c.parts.Plane.ReadFlows(ctx); err != nil {
		return s, err
	}
	s.Missing = c.parts.Plane.Status().Flows - ours
	return s, nil
}

// madeGateway says how Docker has the network docker_gwbridge; nil without Docker's API.
func (c *Checkup) madeGateway() func(context.Context) (doctor.GatewayNetwork, error) {
	if c.parts.Docker == nil {
		return nil
	}
	return func(ctx context.Context) (doctor.GatewayNetwork, error) {
		n, err := c.parts.Docker.Named(ctx, dockerwatch.GatewayBridge)
		if errors.Is(err, dockerwatch.ErrNotFound) {
			return doctor.GatewayNetwork{}, nil
		}
		return doctor.GatewayNetwork{There: err == nil, Open: n.Options["com.docker.network.bridge.enable_icc"] != "false"}, err
	}
}

func (c *Checkup) lookedDocker() doctor.Docker {
	d := doctor.Docker{Files: doctor.Files{Contained: c.isPlugin()}, Host: c.parts.Config.DockerHost}
	if c.parts.Docker != nil {
		d.Ready = func() error {
			err := c.parts.Docker.Ready()
			if errors.Is(err, dockerwatch.ErrNotTried) {
				return doctor.ErrNotTried
			}
			return err
		}
		d.Info = func(ctx context.Context) error {
			_, err := c.parts.Docker.Swarm(ctx) // it is part of Docker's answer to 'docker info'
			return err
		}
		d.Networks = func(ctx context.Context) (int, error) {
			networks, err := c.parts.Docker.Networks(ctx)
			return len(networks), err
		}
	}
	return d
}

// sockets are those that this agent serves. The package's unit gives the command line's socket to a group.
func (c *Checkup) sockets() []doctor.Socket {
	all := []doctor.Socket{{Path: c.parts.Config.PluginSocket, Mode: 0o600}, {Path: c.parts.Config.AdminSocket, Mode: 0o660}}
	if c.isPlugin() {
		all = append(all, doctor.Socket{Path: c.parts.V1Socket, Mode: 0o600})
	}
	return all
}

// notMirrored says why this host's networks are not compared with the cluster's; "" if they are.
func (c *Checkup) notMirrored() string {
	if c.parts.Mirror == nil || !c.parts.Config.Mirror {
		return "networks are made by hand on this host (--mirror=false or --docker-host none)"
	}
	return ""
}

func (c *Checkup) networkTroubles() []string {
	var found []string
	for _, t := range c.parts.Mirror.Troubles() {
		found = append(found, t.Name+": "+t.Text)
	}
	return found
}

// compared is when this host's networks were last compared with the cluster's, and the error of the last attempt.
func (c *Checkup) compared() (time.Time, error) {
	last := c.parts.Mirror.Last()
	if errors.Is(last.Err, dockerwatch.ErrNotTried) && c.parts.Docker.Ready() == nil {
		return last.At, errors.New("the first comparison since the agent's start has not ended, as the store has not answered")
	}
	return last.At, last.Err
}

// notAsked says why no other machine asks for this host's id in the store, as claimSeat does; "" if machines ask.
func (c *Checkup) notAsked() string {
	switch {
	case c.parts.Kind == config.StoreBolt:
		return "the store is a file of this host, which no other machine has"
	}
	return ""
}

func (c *Checkup) lookedNetworks() []doctor.NetworkPools {
	var all []doctor.NetworkPools
	for _, n := range c.parts.Driver.Networks() {
		name := n.Name
		if name == "" {
			name = n.ID
		}
		all = append(all, doctor.NetworkPools{Name: name, Pools: n.Pools})
	}
	return all
}

// ourLink says whether a link is SocketPlane's by its name: the bridge's, or one that Links makes.
func ourLink(name string) bool {
	return strings.HasPrefix(name, "socketplane")
}

// restartSelf, restartSwitch and ownLog are what people do or look at, by how the agent was installed.
func (c *Checkup) restartSelf() string {
	if c.isPlugin() {
		return "docker plugin disable -f socketplane/plugin:latest, and docker plugin enable socketplane/plugin:latest (the name that docker plugin ls shows)"
	}
	return "systemctl restart socketplane"
}

func (c *Checkup) restartSwitch() string {
	if c.isPlugin() && c.parts.Config.OVSDB == config.OwnOVSDB {
		return c.restartSelf()
	}
	return doctor.RestartSwitch(doctor.Files{})
}

func (c *Checkup) ownLog() string {
	if c.isPlugin() {
		return "journalctl -u docker"
	}
	return "journalctl -u socketplane"
}
