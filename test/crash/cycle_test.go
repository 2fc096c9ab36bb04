package crash

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/test/internal/libnetwork"
)

// cycle is one life of a network, with all of its names and what was answered.
type cycle struct {
	*lane
	id                  string
	pool                netip.Prefix
	poolID, gateway     string
	endpoint, neighbour container
	far                 string // the cluster's id of the network, once the far host has it
}

// container is what Docker would know of one.
type container struct {
	endpoint, mac, netns, addr, link string
}

func (ln *lane) newCycle() *cycle {
	ln.cycles++
	n := ln.cycles
	one := func(kind string) container {
		return container{endpoint: fmt.Sprintf("%s%060d", kind, n), mac: fmt.Sprintf("02:%02x:00:00:%02x:%02x", kind[0], n>>8, n&0xff), netns: fmt.Sprintf("%s-%d", kind, n)}
	}
	return &cycle{
		lane: ln, id: fmt.Sprintf("net%061d", n), pool: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(100 + n>>8), byte(n), 0}), 24),
		endpoint: one("cont"), neighbour: one("next"),
	}
}

// step is one thing that Docker or a user asks for.
type step struct {
	name string
	do   func(*cycle, context.Context) error
	// calm steps are not those at which the agent is killed.
	calm bool
	// late steps go through Docker, which tries a call again after 1, 2, 4 and 8 s, and then gives it up.
	late bool
	// abandon names the steps that Docker calls when this one has failed; nil: it goes on, as nothing had happened.
	abandon []string
}

// end is the abandonment of a step after which Docker calls nothing.
var end = []string{}

const macOption = "com.docker.network.endpoint.macaddress"

// calls are Docker's calls in the life of a network with a container.
func calls() []step {
	gone := []string{"ReleaseAddress", "neighbour goes", "ReleaseAddress of the gateway", "ReleasePool", "DeleteNetwork"}
	return []step{
		{name: "RequestPool", do: (*cycle).requestPool, abandon: end},
		{name: "RequestAddress of the gateway", do: (*cycle).requestGateway, abandon: []string{"ReleasePool"}},
		{name: "CreateNetwork", do: (*cycle).createNetwork, abandon: []string{"ReleaseAddress of the gateway", "ReleasePool"}},
		{name: "neighbour comes", do: (*cycle).neighbourComes, calm: true},
		{name: "RequestAddress", do: func(c *cycle, ctx context.Context) error { return c.requestAddress(ctx, &c.endpoint) }, abandon: gone[1:]},
		{name: "CreateEndpoint", do: func(c *cycle, ctx context.Context) error { return c.createEndpoint(ctx, &c.endpoint) }, abandon: gone},
		{name: "Join", do: func(c *cycle, ctx context.Context) error { return c.join(ctx, &c.endpoint) }, abandon: append([]string{"DeleteEndpoint"}, gone...)},
		{name: "it works", do: (*cycle).works, calm: true},
		{name: "Leave", do: func(c *cycle, ctx context.Context) error { return c.leave(ctx, &c.endpoint) }},
		{name: "DeleteEndpoint", do: func(c *cycle, ctx context.Context) error { return c.deleteEndpoint(ctx, &c.endpoint) }},
		{name: "ReleaseAddress", do: func(c *cycle, ctx context.Context) error { return c.releaseAddress(ctx, c.endpoint.addr) }},
		{name: "neighbour goes", do: (*cycle).neighbourGoes, calm: true},
		{name: "ReleaseAddress of the gateway", do: func(c *cycle, ctx context.Context) error { return c.releaseAddress(ctx, c.gateway) }},
		{name: "ReleasePool", do: (*cycle).releasePool},
		{name: "DeleteNetwork", do: (*cycle).deleteNetwork},
	}
}

// restarts are the agent's end and start in the middle of that.
func restarts() []step {
	all := calls()
	for i := range all {
		all[i].calm = true
	}
	return append(append(all[:8:8],
		step{name: "stop", do: func(c *cycle, ctx context.Context) error { return c.h.StopAgent() }},
		step{name: "start", do: func(c *cycle, ctx context.Context) error { return c.restart(ctx) }},
		step{name: "it still works", do: (*cycle).works, calm: true},
	), all[8:]...)
}

// first is the agent's first start on a host.
func first() []step {
	return []step{
		{name: "wipe", do: (*cycle).wipe, calm: true},
		{name: "first start", do: func(c *cycle, ctx context.Context) error { return c.restart(ctx) }},
	}
}

// mirrored is a network that a user makes on all hosts and removes from them: the agent asks Docker for it.
func mirrored() []step {
	return []step{
		{name: "socketplane network create", do: (*cycle).networkCreate, late: true},
		{name: "socketplane network rm", do: (*cycle).networkRemove, late: true},
	}
}

func (c *cycle) requestPool(ctx context.Context) error {
	got, err := c.docker.Call(ctx, "IpamDriver.RequestPool", libnetwork.Object{"AddressSpace": "socketplane", "Pool": c.pool.String()})
	if err == nil {
		c.poolID, _ = got["PoolID"].(string)
	}
	return err
}

func (c *cycle) requestGateway(ctx context.Context) error {
	got, err := c.docker.Call(ctx, "IpamDriver.RequestAddress", libnetwork.Object{"PoolID": c.poolID, "Options": libnetwork.Object{"RequestAddressType": "com.docker.network.gateway"}})
	if err == nil {
		c.gateway, _ = got["Address"].(string)
	}
	return err
}

func (c *cycle) createNetwork(ctx context.Context) error {
	_, err := c.docker.Call(ctx, "NetworkDriver.CreateNetwork", libnetwork.Object{"NetworkID": c.id, "Options": libnetwork.Object{},
		"IPv4Data": []libnetwork.Object{{"AddressSpace": "socketplane", "Pool": c.pool.String(), "Gateway": c.gateway}}})
	return err
}

func (c *cycle) requestAddress(ctx context.Context, e *container) error {
	got, err := c.docker.Call(ctx, "IpamDriver.RequestAddress", libnetwork.Object{"PoolID": c.poolID, "Options": libnetwork.Object{macOption: e.mac}})
	if err != nil {
		return err
	}
	e.addr, _ = got["Address"].(string)
	if e.addr == c.gateway || c.endpoint.addr == c.neighbour.addr {
		return fmt.Errorf("%s is given out twice", e.addr)
	}
	return nil
}

func (c *cycle) createEndpoint(ctx context.Context, e *container) error {
	_, err := c.docker.Call(ctx, "NetworkDriver.CreateEndpoint", libnetwork.Object{"NetworkID": c.id, "EndpointID": e.endpoint, "Options": libnetwork.Object{},
		"Interface": libnetwork.Object{"Address": e.addr, "MacAddress": e.mac}})
	return err
}

func (c *cycle) join(ctx context.Context, e *container) error {
	got, err := c.docker.Call(ctx, "NetworkDriver.Join", libnetwork.Object{"NetworkID": c.id, "EndpointID": e.endpoint, "SandboxKey": "/x", "Options": libnetwork.Object{}})
	if err != nil {
		return err
	}
	name, _ := got["InterfaceName"].(map[string]any)
	e.link, _ = name["SrcName"].(string)
	// As Docker does: the link goes into the container.
	_, err = c.h.Exec(ctx, "sh", "-ec", `ip netns add "$1"; ip link set "$2" netns "$1"; ip -n "$1" addr add "$3" dev "$2"; ip -n "$1" link set "$2" up`,
		"sh", e.netns, e.link, e.addr)
	return err
}

// works demands that the container reaches its neighbour, and the switch the far host.
func (c *cycle) works(ctx context.Context) error {
	to, _, _ := strings.Cut(c.neighbour.addr, "/")
	return waitFor(ctx, within, func(ctx context.Context) error {
		_, err := c.h.Exec(ctx, "nsenter", "--net=/run/netns/"+c.endpoint.netns, "ping", "-n", "-c", "1", "-W", "1", to)
		if err != nil {
			return err
		}
		flows, err := c.h.Exec(ctx, "ovs-ofctl", "-OOpenFlow14", "dump-flows", "socketplane0", "table=50")
		if err == nil && !strings.Contains(flows, farMAC) {
			err = fmt.Errorf("no flow leads to the far host's %s:\n%s", farMAC, flows)
		}
		return err
	})
}

func (c *cycle) leave(ctx context.Context, e *container) error {
	_, err := c.docker.Call(ctx, "NetworkDriver.Leave", libnetwork.Object{"NetworkID": c.id, "EndpointID": e.endpoint})
	return err
}

func (c *cycle) deleteEndpoint(ctx context.Context, e *container) error {
	if err := c.moveBack(ctx, e); err != nil {
		return err
	}
	_, err := c.docker.Call(ctx, "NetworkDriver.DeleteEndpoint", libnetwork.Object{"NetworkID": c.id, "EndpointID": e.endpoint})
	return err
}

// moveBack takes the link out of the container, as Docker does between Leave and DeleteEndpoint.
func (c *cycle) moveBack(ctx context.Context, e *container) error {
	_, err := c.h.Exec(ctx, "sh", "-c", `[ -e "/run/netns/$1" ] || exit 0; ip -n "$1" link set "$2" netns 1; ip netns delete "$1"`, "sh", e.netns, e.link)
	return err
}

func (c *cycle) releaseAddress(ctx context.Context, addr string) error {
	bare, _, _ := strings.Cut(addr, "/")
	_, err := c.docker.Call(ctx, "IpamDriver.ReleaseAddress", libnetwork.Object{"PoolID": c.poolID, "Address": bare})
	return err
}

func (c *cycle) releasePool(ctx context.Context) error {
	_, err := c.docker.Call(ctx, "IpamDriver.ReleasePool", libnetwork.Object{"PoolID": c.poolID})
	return err
}

func (c *cycle) deleteNetwork(ctx context.Context) error {
	_, err := c.docker.Call(ctx, "NetworkDriver.DeleteNetwork", libnetwork.Object{"NetworkID": c.id})
	return err
}

// farMAC is that of the far host's container.
const farMAC = "02:fa:00:00:00:01"

// neighbourComes adds a container beside the one that matters, and one on the far host.
func (c *cycle) neighbourComes(ctx context.Context) error {
	e, err := c.lane.far.KV().Get(ctx, store.PoolKey(c.pool))
	if err != nil {
		return err
	}
	var pool store.Pool
	if err := json.Unmarshal(e.Value, &pool); err != nil {
		return err
	}
	c.far = pool.Network
	far := c.lane.far
	_, err = far.Bind(ctx, store.Binding{DockerID: "far" + c.id, Pools: []netip.Prefix{c.pool}, ID: pool.Network})
	if err == nil {
		err = far.PutEndpoints(ctx, c.far, []store.Endpoint{{ID: "far", MAC: farMAC, Addrs: []netip.Addr{lastOf(c.pool)}}})
	}
	return errors.Join(err, c.requestAddress(ctx, &c.neighbour), c.createEndpoint(ctx, &c.neighbour), c.join(ctx, &c.neighbour))
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	b[3] = 254
	return netip.AddrFrom4(b)
}

func (c *cycle) neighbourGoes(ctx context.Context) error {
	far := c.lane.far
	return errors.Join(
		c.leave(ctx, &c.neighbour), c.deleteEndpoint(ctx, &c.neighbour), c.releaseAddress(ctx, c.neighbour.addr),
		far.PutEndpoints(ctx, c.far, nil), far.Unbind(ctx, c.far, "far"+c.id),
	)
}

// restart starts the agent unless it runs.
func (c *cycle) restart(ctx context.Context) error {
	if c.h.AgentRunning() {
		return c.h.WaitReady(ctx)
	}
	return c.start(ctx)
}

// wipe makes the host one that has never had an agent.
func (c *cycle) wipe(ctx context.Context) error {
	if err := c.h.StopAgent(); err != nil {
		return err
	}
	_, err := c.h.Exec(ctx, "sh", "-ec", "rm -rf /var/lib/socketplane/*; ovs-vsctl --timeout=10 --if-exists del-br socketplane0")
	if err != nil {
		return err
	}
	keys, err := c.Consul.Keys(ctx, store.HostsPrefix)
	for key := range keys {
		if !strings.Contains(key, c.lane.far.Host()) {
			err = errors.Join(err, c.lane.far.KV().Apply(ctx, store.Op{Kind: store.OpRemove, Key: key}))
		}
	}
	return err
}

// web is the name of the network that goes through Docker.
func (c *cycle) web() string { return fmt.Sprintf("web%d", c.cycles) }

func (c *cycle) networkCreate(ctx context.Context) error {
	_, err := c.h.SocketPlane(ctx, "network", "create", c.web(), c.pool.String())
	if err != nil && !strings.Contains(err.Error(), "already") {
		return err
	}
	return waitFor(ctx, forgotten, func(ctx context.Context) error {
		_, err := c.h.Docker(ctx, "network", "inspect", c.web())
		return err
	})
}

func (c *cycle) networkRemove(ctx context.Context) error {
	_, err := c.h.SocketPlane(ctx, "network", "rm", c.web())
	if err != nil && !strings.Contains(err.Error(), "no network") {
		return err
	}
	return waitFor(ctx, forgotten, func(ctx context.Context) error {
		out, err := c.h.Docker(ctx, "network", "ls", "-q", "--filter", "name="+c.web())
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("docker still has %s", c.web())
		}
		return err
	})
}
