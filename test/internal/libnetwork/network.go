package libnetwork

import (
	"context"
	"strings"
	"time"
)

// space is the address space of SocketPlane's IPAM driver.
const space = "socketplane"

// Network is a network as Docker has it on one host.
type Network struct {
	*Client
	// ID is Docker's; Pool is the driver's name of the subnet.
	ID, Pool string
}

// Network makes a network of a subnet, with this host's addresses from a part of it ("" for all of it).
func (c *Client) Network(ctx context.Context, id, subnet, within string) (*Network, error) {
	pool, err := c.Call(ctx, "IpamDriver.RequestPool", Object{"AddressSpace": space, "Pool": subnet, "SubPool": within})
	if err != nil {
		return nil, err
	}
	n := &Network{c, id, pool["PoolID"].(string)}
	gateway, err := c.Call(ctx, "IpamDriver.RequestAddress",
		Object{"PoolID": n.Pool, "Options": Object{"RequestAddressType": "com.docker.network.gateway"}})
	if err != nil {
		return nil, err
	}
	_, err = c.Call(ctx, "NetworkDriver.CreateNetwork", Object{"NetworkID": id, "Options": Object{},
		"IPv4Data": []Object{{"AddressSpace": space, "Pool": pool["Pool"], "Gateway": gateway["Address"]}}})
	return n, err
}

// Remove does what Docker does when the network is removed.
func (n *Network) Remove(ctx context.Context) error {
	if _, err := n.Call(ctx, "IpamDriver.ReleasePool", Object{"PoolID": n.Pool}); err != nil {
		return err
	}
	_, err := n.Call(ctx, "NetworkDriver.DeleteNetwork", Object{"NetworkID": n.ID})
	return err
}

// Endpoint is a container's place on a network.
type Endpoint struct {
	Network *Network
	// ID is Docker's; Addr is the address without its prefix length; Link is the end of the pair that Docker moves into the container.
	ID, Addr, Link string
	// Attach is how long CreateEndpoint and Join took together.
	Attach time.Duration
}

// Join does what Docker does when a container starts. If that fails once the address is had, the endpoint is given all the same.
func (n *Network) Join(ctx context.Context, id, mac string) (*Endpoint, error) {
	addr, err := n.Call(ctx, "IpamDriver.RequestAddress", Object{"PoolID": n.Pool, "Options": Object{"com.docker.network.endpoint.macaddress": mac}})
	if err != nil {
		return nil, err
	}
	text := addr["Address"].(string)
	e := &Endpoint{Network: n, ID: id}
	e.Addr, _, _ = strings.Cut(text, "/")
	began := time.Now()
	if _, err := n.Call(ctx, "NetworkDriver.CreateEndpoint", Object{"NetworkID": n.ID, "EndpointID": id, "Options": Object{},
		"Interface": Object{"Address": text, "MacAddress": mac}}); err != nil {
		return e, err
	}
	joined, err := n.Call(ctx, "NetworkDriver.Join",
		Object{"NetworkID": n.ID, "EndpointID": id, "SandboxKey": "/var/run/docker/netns/none", "Options": Object{}})
	if err != nil {
		return e, err
	}
	e.Attach = time.Since(began)
	e.Link = joined["InterfaceName"].(map[string]any)["SrcName"].(string)
	return e, nil
}

// Leave does what Docker does when a container ends.
func (e *Endpoint) Leave(ctx context.Context) error {
	ids := Object{"NetworkID": e.Network.ID, "EndpointID": e.ID, "PoolID": e.Network.Pool, "Address": e.Addr}
	for _, method := range []string{"NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "IpamDriver.ReleaseAddress"} {
		if _, err := e.Network.Call(ctx, method, ids); err != nil {
			return err
		}
	}
	return nil
}
