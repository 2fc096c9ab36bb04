package mirror_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/mirror"
)

// What users do on a host.

// ours is a network of our driver and our IPAM.
func ours(name string, subnets ...dockerwatch.Subnet) dockerwatch.Network {
	return dockerwatch.Network{Name: name, Driver: mirror.DriverName, IPAMDriver: mirror.DriverName, Subnets: subnets}
}

func subnet(cidr string) dockerwatch.Subnet {
	return dockerwatch.Subnet{CIDR: netip.MustParsePrefix(cidr)}
}

// creates is `docker network create`, which must succeed.
func (h *host) creates(n dockerwatch.Network) {
	h.w.Helper()
	_, err := h.docker.create(h.w.ctx, n)
	h.w.must(err)
}

// removes is `docker network rm`.
func (h *host) removes(name string) {
	h.w.Helper()
	n, err := h.docker.Named(h.w.ctx, name)
	h.w.must(err)
	h.w.must(h.docker.Remove(h.w.ctx, n.ID))
}

// network is what Docker has here, without what differs from host to host.
func (h *host) network(name string) string {
	h.w.Helper()
	n, err := h.docker.Named(h.w.ctx, name)
	if err != nil {
		return err.Error()
	}
	n.ID, n.IPAMOptions, n.IPAMDriver = "", nil, ""
	return fmt.Sprintf("%+v", n)
}

// runs is `docker run`.
func (h *host) runs(name, networkName string) {
	h.w.Helper()
	n, err := h.docker.Named(h.w.ctx, networkName)
	h.w.must(err)
	h.docker.mu.Lock()
	h.docker.made++
	c := container{name: name, network: n.ID, endpoint: fmt.Sprintf("%s-endpoint-%d", h.id, h.docker.made), pool: n.Subnets[0].CIDR.String()}
	mac := fmt.Sprintf("02:00:%02x:00:00:%02x", h.id[1], h.docker.made)
	h.docker.mu.Unlock()
	create := &network.CreateEndpointRequest{NetworkID: n.ID, EndpointID: c.endpoint, Interface: &network.EndpointInterface{MacAddress: mac}}
	if n.IPAMDriver == mirror.DriverName {
		got, err := h.ipam.RequestAddress(h.w.ctx, &ipam.RequestAddressRequest{PoolID: c.pool,
			Options: map[string]string{"com.docker.network.endpoint.macaddress": mac}})
		h.w.must(err)
		create.Interface.Address = got.Address
	} else {
		p := n.Subnets[0].CIDR
		create.Interface.Address = netip.PrefixFrom(p.Addr().Next().Next(), p.Bits()).String()
	}
	c.addr = netip.MustParsePrefix(create.Interface.Address).Addr().String()
	_, err = h.driver.CreateEndpoint(h.w.ctx, create)
	h.w.must(err)
	_, err = h.driver.Join(h.w.ctx, &network.JoinRequest{NetworkID: n.ID, EndpointID: c.endpoint})
	h.w.must(err)
	h.docker.mu.Lock()
	c.listed = time.Now().Add(h.docker.late)
	h.docker.containers = append(h.docker.containers, c)
	h.docker.mu.Unlock()
	h.docker.event("network", "connect", n.ID, "id of "+name)
	h.docker.event("container", "start", "id of "+name, "")
}

// kills ends a container without telling the drivers: Docker died in the middle, or the agent was down.
func (h *host) kills(name string) container {
	h.w.Helper()
	h.docker.mu.Lock()
	defer h.docker.mu.Unlock()
	for i, c := range h.docker.containers {
		if c.name == name {
			h.docker.containers = append(h.docker.containers[:i:i], h.docker.containers[i+1:]...)
			return c
		}
	}
	h.w.Fatalf("%s has no container %s", h.id, name)
	return container{}
}

// stops is `docker rm -f`.
func (h *host) stops(name string) {
	h.w.Helper()
	c := h.kills(name)
	h.w.must(h.driver.Leave(h.w.ctx, &network.LeaveRequest{NetworkID: c.network, EndpointID: c.endpoint}))
	h.w.must(h.driver.DeleteEndpoint(h.w.ctx, &network.DeleteEndpointRequest{NetworkID: c.network, EndpointID: c.endpoint}))
	h.w.must(h.ipam.ReleaseAddress(h.w.ctx, &ipam.ReleaseAddressRequest{PoolID: c.pool, Address: c.addr}))
	h.docker.event("network", "disconnect", c.network, "id of "+name)
	h.docker.event("container", "die", "id of "+name, "")
}
