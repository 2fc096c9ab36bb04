package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"
	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/test/lab"
)

// docker is dockerd's part towards one agent: it calls the plugin socket in the order and form in which libnetwork does.
type docker struct {
	host *lab.Host
	http *http.Client
}

func newDocker(h *lab.Host) *docker {
	socket := filepath.Join(h.Dir, lab.PluginSocket) // The host's /run is Dir/run.
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &docker{host: h, http: &http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 30 * time.Second}}
}

// call calls a method, and says how long the answer took. An answer with an error is an error.
func (d *docker) call(ctx context.Context, method string, request, answer any) (time.Duration, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", d.host.Name, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	took := time.Since(start)
	if err != nil {
		return took, fmt.Errorf("%s: %s: %w", d.host.Name, method, err)
	}
	if resp.StatusCode != http.StatusOK {
		return took, fmt.Errorf("%s: %s: %s: %s", d.host.Name, method, resp.Status, text)
	}
	if answer == nil {
		return took, nil
	}
	return took, json.Unmarshal(text, answer)
}

// dockerNetwork is a network on one host.
type dockerNetwork struct {
	*docker
	id, pool string
}

// newID is an id as Docker makes them.
func newID() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // It never fails (crypto/rand).
	return hex.EncodeToString(b)
}

// createNetwork is `docker network create -d socketplane --ipam-driver socketplane -o network=NAME --subnet SUBNET`.
func (d *docker) createNetwork(ctx context.Context, name, subnet string) (*dockerNetwork, error) {
	var spaces ipam.AddressSpacesResponse
	if _, err := d.call(ctx, "IpamDriver.GetDefaultAddressSpaces", struct{}{}, &spaces); err != nil {
		return nil, err
	}
	var pool ipam.RequestPoolResponse
	ask := ipam.RequestPoolRequest{AddressSpace: spaces.LocalDefaultAddressSpace, Pool: subnet}
	if _, err := d.call(ctx, "IpamDriver.RequestPool", ask, &pool); err != nil {
		return nil, err
	}
	n := &dockerNetwork{docker: d, id: newID(), pool: pool.PoolID}
	gateway, _, err := n.address(ctx, map[string]string{"RequestAddressType": "com.docker.network.gateway"})
	if err != nil {
		return nil, err
	}
	_, err = d.call(ctx, "NetworkDriver.CreateNetwork", network.CreateNetworkRequest{
		NetworkID: n.id,
		Options:   map[string]any{"com.docker.network.generic": map[string]string{"network": name}},
		IPv4Data:  []*network.IPAMData{{AddressSpace: spaces.LocalDefaultAddressSpace, Pool: pool.Pool, Gateway: gateway}},
	}, nil)
	return n, err
}

func (n *dockerNetwork) address(ctx context.Context, options map[string]string) (string, time.Duration, error) {
	var answer ipam.RequestAddressResponse
	took, err := n.call(ctx, "IpamDriver.RequestAddress", ipam.RequestAddressRequest{PoolID: n.pool, Options: options}, &answer)
	return answer.Address, took, err
}

// remove is `docker network rm`.
func (n *dockerNetwork) remove(ctx context.Context) error {
	if _, err := n.call(ctx, "IpamDriver.ReleasePool", ipam.ReleasePoolRequest{PoolID: n.pool}, nil); err != nil {
		return err
	}
	_, err := n.call(ctx, "NetworkDriver.DeleteNetwork", network.DeleteNetworkRequest{NetworkID: n.id}, nil)
	return err
}

// endpoint is a container's interface on a network.
type endpoint struct {
	n       *dockerNetwork
	id, mac string
	cidr    string // the address with the prefix length
	link    string // what Join answered
	took    callTimes
}

// callTimes is how long the answers took.
type callTimes struct {
	address, create, join, leave time.Duration
}

// newEndpoint asks for an address and creates the endpoint.
func (n *dockerNetwork) newEndpoint(ctx context.Context) (*endpoint, error) {
	mac := make([]byte, 5)
	_, _ = rand.Read(mac)
	e := &endpoint{n: n, id: newID(), mac: fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4])}
	var err error
	if e.cidr, e.took.address, err = n.address(ctx, map[string]string{"com.docker.network.endpoint.macaddress": e.mac}); err != nil {
		return nil, err
	}
	e.took.create, err = n.call(ctx, "NetworkDriver.CreateEndpoint", network.CreateEndpointRequest{
		NetworkID: n.id, EndpointID: e.id,
		Interface: &network.EndpointInterface{Address: e.cidr, MacAddress: e.mac},
		Options:   map[string]any{"com.docker.network.endpoint.exposedports": []any{}, "com.docker.network.portmap": []any{}},
	}, nil)
	return e, err
}

func (e *endpoint) join(ctx context.Context) error {
	var answer network.JoinResponse
	var err error
	e.took.join, err = e.n.call(ctx, "NetworkDriver.Join", network.JoinRequest{
		NetworkID: e.n.id, EndpointID: e.id, SandboxKey: "/var/run/docker/netns/" + e.id[:12], Options: map[string]any{},
	}, &answer)
	if e.link = answer.InterfaceName.SrcName; err == nil && e.link == "" {
		err = fmt.Errorf("%s: Join answered no interface", e.n.host.Name)
	}
	return err
}

// remove is what Docker does when a container stops.
func (e *endpoint) remove(ctx context.Context) error {
	leave, err := e.n.call(ctx, "NetworkDriver.Leave", network.LeaveRequest{NetworkID: e.n.id, EndpointID: e.id}, nil)
	if err != nil {
		return err
	}
	del, err := e.n.call(ctx, "NetworkDriver.DeleteEndpoint", network.DeleteEndpointRequest{NetworkID: e.n.id, EndpointID: e.id}, nil)
	if err != nil {
		return err
	}
	e.took.leave = leave + del
	_, err = e.n.call(ctx, "IpamDriver.ReleaseAddress", ipam.ReleaseAddressRequest{PoolID: e.n.pool, Address: e.ip()}, nil)
	return err
}

func (e *endpoint) ip() string {
	ip, _, _ := strings.Cut(e.cidr, "/")
	return ip
}

// joined is an endpoint that has joined.
func (n *dockerNetwork) joined(ctx context.Context) (*endpoint, error) {
	e, err := n.newEndpoint(ctx)
	if err != nil {
		return nil, err
	}
	return e, e.join(ctx)
}

// segment is one network of the cluster on both hosts of a site.
type segment struct {
	on [2]*dockerNetwork
}

// newSegment makes network number n of the benchmark.
func newSegment(ctx context.Context, s site, name string, n int) (*segment, error) {
	seg := &segment{}
	for i, h := range s.lab.Hosts {
		var err error
		if seg.on[i], err = newDocker(h).createNetwork(ctx, name, fmt.Sprintf("10.%d.0.0/20", 70+n)); err != nil {
			return nil, err
		}
	}
	return seg, nil
}

func (s *segment) remove(ctx context.Context) error {
	for _, n := range s.on {
		if err := n.remove(ctx); err != nil {
			return err
		}
	}
	return nil
}
