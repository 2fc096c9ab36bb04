package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/janitor"
	"github.com/socketplane/socketplane/internal/probe"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
	"github.com/socketplane/socketplane/store"
)

// Doctor looks at everything that this host needs.
func (a *agent) Doctor(ctx context.Context) ([]adminapi.Check, error) {
	return doctor.Run(ctx, a.checks(ctx)), nil
}

// checks are all checks, in the order of doctor.Names. What several of them ask of the cluster's store is asked once.
func (a *agent) checks(ctx context.Context) []doctor.Check {
	members := once(ctx, a.cluster.Hosts)
	peers := once(ctx, func(ctx context.Context) ([]doctor.Peer, error) { return a.peers(ctx, members) })
	sw, tunnel := a.lookedSwitch(), a.tunnelChecks()
	return []doctor.Check{
		a.checkSelf(),
		doctor.Versions(a.opts.Version.Version, peers),
		doctor.HostNames(a.cfg.Name, a.cluster.Host(), peers),
		doctor.Identity(a.cluster.Host(), a.notAsked(), a.copied, func(ctx context.Context) error {
			_, err := members(ctx)
			return err
		}),
		doctor.KernelModule(doctor.Files{}, a.links.HasKernelDatapath),
		sw.Daemons(),
		doctor.Bridge(config.Bridge, a.bridgeState),
		sw.Offload(),
		doctor.Address{Links: doctor.HostLinks, Underlay: a.lookedUnderlay, Hosts: peers, Stations: stations, Restart: a.restartSelf()}.Check(),
		tunnel[0], tunnel[1], tunnel[2], tunnel[3],
		doctor.Forwarding(doctor.Files{}, doctor.HostLinks, a.outward),
		doctor.ReversePath(doctor.Files{}, a.lookedUnderlay, peers, a.links.WayTo, a.links.Loopback),
		doctor.Gateway(doctor.HostLinks, a.outward, a.madeGateway()),
		doctor.Conntrack(doctor.Files{}),
		doctor.Limits(doctor.Files{}),
		doctor.Store(doctor.StoreDeps{Links: doctor.HostLinks, Ask: askConsul, Kind: string(a.storage.kind), Address: a.storage.address, Own: a.storage.managed != nil,
			Alone: a.storage.kind == config.StoreBolt, Host: a.cluster.Host(), Members: members, Log: a.ownLog()}),
		doctor.Cluster(a.clusterStatus()),
		a.lookedClocks(peers),
		a.lookedDocker().Check(),
		doctor.Sight{DockerHost: a.cfg.DockerHost, PluginSocket: a.cfg.PluginSocket, Managed: a.isPlugin()}.Check(),
		doctor.Sockets(a.sockets(), a.restartSelf()),
		doctor.StateDir(doctor.Files{}, a.cfg.StateDir, a.opened, a.restartSelf()),
		doctor.Stale(a.stale),
		doctor.Networks(a.notMirrored(), a.networkTroubles, a.compared),
		doctor.Published(a.unpublished, a.ownLog()),
		doctor.Subnets(doctor.HostLinks, a.lookedNetworks, ourLink),
		a.lookedWay(peers).Check(),
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

// peers are the other hosts of the cluster, sorted by name. Where no container uses a network, there may be no tunnel yet, and so nobody at the port.
func (a *agent) peers(ctx context.Context, members func(context.Context) (store.Membership, error)) ([]doctor.Peer, error) {
	all, err := members(ctx)
	if err != nil {
		return nil, err
	}
	if _, there := all.Hosts[a.cluster.Host()]; !there {
		return nil, errors.New("the store does not show this host's own record, and perhaps not those of others")
	}
	users, needs := map[string]bool{}, map[string]int{}
	networks, err := a.cluster.Networks(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range networks {
		hosts, err := a.cluster.Users(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		var mine store.Endpoints
		if slices.Contains(hosts, a.cluster.Host()) {
			if mine, err = a.cluster.Endpoints(ctx, n.ID, a.cluster.Host()); err != nil {
				return nil, err
			}
		}
		for _, id := range hosts {
			users[id], needs[id] = true, max(needs[id], largest(n, mine))
		}
	}
	overhead := -dataplane.ContainerMTU(0, a.where().Addr)
	var peers []doctor.Peer
	for id, h := range all.Hosts {
		if id != a.cluster.Host() {
			peers = append(peers, doctor.Peer{ID: id, Name: h.Name, VTEP: h.VTEP, Alive: all.Alive[id], Version: h.Version, VXLANPort: h.VXLANPort,
				Used: users[id], Needs: max(a.driver.MTU(), needs[id]) + overhead})
		}
	}
	slices.SortFunc(peers, func(a, b doctor.Peer) int { return strings.Compare(a.Name+" "+a.ID, b.Name+" "+b.ID) })
	return peers, nil
}

// largest is the largest packet, in bytes, that this host's containers send on a network; 0 if none is attached to it. A container keeps the MTU
// with which it joined.
func largest(n store.Network, mine store.Endpoints) int {
	size := 0
	for _, e := range mine.Endpoints {
		size = max(size, n.MTU, e.MTU)
	}
	return size
}

func (a *agent) lookedUnderlay() doctor.Underlay {
	u, err := a.underlay.Current()
	return doctor.Underlay{Addr: u.Addr, Dev: u.Dev, MTU: u.MTU, Err: err}
}

func (a *agent) lookedSwitch() doctor.Switch {
	return doctor.Switch{Files: doctor.Files{Contained: a.isPlugin()}, DB: strings.TrimPrefix(a.cfg.OVSDB, "unix:"), Mgmt: a.sw.MgmtPath(), Restart: a.restartSwitch(), Log: a.ownLog(),
		Plane: func(ctx context.Context) doctor.Plane {
			st := a.plane.Status()
			return doctor.Plane{Version: a.sw.Version(ctx), Datapath: st.Datapath, Tunnel: string(st.Tunnel), TSO: st.TSO, Flows: st.Flows, Err: st.Err}
		}}
}

func (a *agent) bridgeState(ctx context.Context) (doctor.BridgeState, error) {
	row, err := a.sw.BridgeRow()
	if err != nil {
		return doctor.BridgeState{}, err
	}
	if row == nil {
		return doctor.BridgeState{}, errors.New("there is no bridge " + config.Bridge + " yet")
	}
	drift := a.plane.Status().Drift
	s := doctor.BridgeState{Controllers: len(row.Controller), Mended: drift.Flows, Last: drift.FlowsAt}
	if row.FailMode != nil {
		s.FailMode = *row.FailMode
	}
	if s.Ports, err = a.sw.ForeignPorts(); err != nil {
		return s, err
	}
	ours := 0
	if ours, s.Flows, err = a.plane.ReadFlows(ctx); err != nil {
		return s, err
	}
	s.Missing = a.plane.Status().Flows - ours
	return s, nil
}

// madeGateway says how Docker has the network docker_gwbridge; nil without Docker's API.
func (a *agent) madeGateway() func(context.Context) (doctor.GatewayNetwork, error) {
	if a.docker == nil {
		return nil
	}
	return func(ctx context.Context) (doctor.GatewayNetwork, error) {
		n, err := a.docker.Named(ctx, dockerwatch.GatewayBridge)
		if errors.Is(err, dockerwatch.ErrNotFound) {
			return doctor.GatewayNetwork{}, nil
		}
		return doctor.GatewayNetwork{There: err == nil, Open: n.Options["com.docker.network.bridge.enable_icc"] != "false"}, err
	}
}

// clusterStatus is nil where this agent forms no cluster.
func (a *agent) clusterStatus() func(context.Context) (adminapi.ClusterStatus, error) {
	if a.storage.managed == nil {
		return nil
	}
	return a.Cluster
}

func (a *agent) lookedDocker() doctor.Docker {
	d := doctor.Docker{Files: doctor.Files{Contained: a.isPlugin()}, Host: a.cfg.DockerHost}
	if a.docker != nil {
		d.Ready = func() error {
			err := a.docker.Ready()
			if errors.Is(err, dockerwatch.ErrNotTried) {
				return doctor.ErrNotTried
			}
			return err
		}
		d.Info = func(ctx context.Context) error {
			_, err := a.docker.Swarm(ctx) // it is part of Docker's answer to 'docker info'
			return err
		}
		d.Networks = func(ctx context.Context) (int, error) {
			networks, err := a.docker.Networks(ctx)
			return len(networks), err
		}
	}
	return d
}

// sockets are those that this agent serves. The package's unit gives the command line's socket to a group.
func (a *agent) sockets() []doctor.Socket {
	all := []doctor.Socket{{Path: a.cfg.PluginSocket, Mode: 0o600}, {Path: a.cfg.AdminSocket, Mode: 0o660}}
	if a.isPlugin() {
		all = append(all, doctor.Socket{Path: a.opts.V1Socket, Mode: 0o600})
	}
	return all
}

// stale says what waits to be removed.
func (a *agent) stale(ctx context.Context) ([]string, error) {
	var found []string
	if a.pending(ctx) {
		found = append(found, "something that was removed waits for the store or the switch")
	}
	networks, unread, err := a.cluster.AllNetworks(ctx)
	if err != nil {
		return nil, err
	}
	_, unreadPools, err := a.cluster.AllPools(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range []store.Unreadable{unread, unreadPools} {
		for _, why := range u {
			found = append(found, why.Error())
		}
	}
	members, err := a.cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	left, err := janitor.Leftovers(ctx, a.cluster, members, a.cfg.HostExpiry, a.cfg.GarbageGrace)
	if err != nil {
		return nil, err
	}
	found = append(found, left...)
	for _, n := range networks {
		if n.State == store.Deleting {
			found = append(found, fmt.Sprintf("network %s is removed, but %d hosts still have it", n.Title(), len(n.Hosts)))
		}
	}
	return found, nil
}

// notMirrored says why this host's networks are not compared with the cluster's; "" if they are.
func (a *agent) notMirrored() string {
	if a.mirror == nil || !a.cfg.Mirror {
		return "networks are made by hand on this host (--mirror=false or --docker-host none)"
	}
	return ""
}

func (a *agent) networkTroubles() []string {
	var found []string
	for _, t := range a.mirror.Troubles() {
		found = append(found, t.Name+": "+t.Text)
	}
	return found
}

// compared is when this host's networks were last compared with the cluster's, and the error of the last attempt.
func (a *agent) compared() (time.Time, error) {
	last := a.mirror.Last()
	if errors.Is(last.Err, dockerwatch.ErrNotTried) && a.docker.Ready() == nil {
		return last.At, errors.New("the first comparison since the agent's start has not ended, as the store has not answered")
	}
	return last.At, last.Err
}

// notAsked says why no other machine asks for this host's id in the store, as claimSeat does; "" if machines ask.
func (a *agent) notAsked() string {
	switch {
	case a.storage.kind == config.StoreBolt:
		return "the store is a file of this host, which no other machine has"
	}
	return ""
}

func (a *agent) lookedNetworks() []doctor.NetworkPools {
	var all []doctor.NetworkPools
	for _, n := range a.driver.Networks() {
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

// askConsul asks the Consul at an address who leads it.
func askConsul(ctx context.Context, address string) error {
	err := probe.Consul(ctx, address)
	if errors.Is(err, probe.ErrNoLeader) {
		return fmt.Errorf("%w: %w", store.ErrNoLeader, err)
	}
	return err
}

// stations asks a link's segment who has an address of this host, as a machine does before it takes one: with no sender's address (RFC 5227).
func stations(ctx context.Context, dev string, own netip.Addr) ([]string, error) {
	macs, err := probe.Neighbours(ctx, dev, netip.IPv4Unspecified(), own)
	if errors.Is(err, probe.ErrNoAnswer) {
		return nil, nil
	}
	return macs, err
}

func (a *agent) lookedWay(peers func(context.Context) ([]doctor.Peer, error)) doctor.Way {
	return doctor.Way{
		Links: doctor.HostLinks, Underlay: a.lookedUnderlay, VXLANPort: a.cfg.VXLANPort, Hosts: peers,
		Tunnel: func(ctx context.Context, to netip.Addr, size int) (doctor.Answer, error) {
			n, from, err := a.plane.Probe(ctx, to, size)
			switch {
			case errors.Is(err, ovs.ErrNoTunnel):
				err = doctor.ErrNoTunnel
			case errors.Is(err, ovs.ErrNoAnswer):
				err = doctor.ErrNoAnswer
			}
			return doctor.Answer{Size: n, Host: from.String()}, err
		},
		Echo: probe.Echo, Refused: probe.Refused, Route: a.links.NextHop,
		Neighbours: func(ctx context.Context, dev string, to netip.Addr) ([]string, error) {
			macs, err := probe.Neighbours(ctx, dev, a.where().Addr, to)
			if errors.Is(err, probe.ErrNoAnswer) {
				err = doctor.ErrNoAnswer
			}
			return macs, err
		},
		Bridge: a.bridgeState,
		HostOf: func(id string) string { return pipeline.ProbeMAC(id).String() },
	}
}

func (a *agent) lookedClocks(peers func(context.Context) ([]doctor.Peer, error)) doctor.Check {
	way := a.lookedWay(peers)
	return doctor.Clocks(doctor.ClockDeps{
		Hosts: peers, Synced: probe.Synced,
		Ask: func(ctx context.Context, to netip.Addr) (time.Duration, error) {
			ahead, err := probe.Clock(ctx, to)
			if errors.Is(err, probe.ErrNoAnswer) {
				err = doctor.ErrNoAnswer
			}
			return ahead, err
		},
		Reached: func(ctx context.Context, to netip.Addr) bool { return way.Reached(ctx, to) },
	})
}

// restartSelf, restartSwitch and ownLog are what people do or look at, by how the agent was installed.
func (a *agent) restartSelf() string {
	if a.isPlugin() {
		return "docker plugin disable -f socketplane/plugin:latest, and docker plugin enable socketplane/plugin:latest (the name that docker plugin ls shows)"
	}
	return "systemctl restart socketplane"
}

func (a *agent) restartSwitch() string {
	if a.isPlugin() && a.cfg.OVSDB == config.OwnOVSDB {
		return a.restartSelf()
	}
	return doctor.RestartSwitch(doctor.Files{})
}

func (a *agent) ownLog() string {
	if a.isPlugin() {
		return "journalctl -u docker"
	}
	return "journalctl -u socketplane"
}
