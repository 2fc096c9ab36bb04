package driver_test

import (
	"github.com/docker/go-plugins-helpers/network"
)

// create asks for a network as Docker does: of Docker's own IPAM unless ours is said.
func (h *host) create(id, addressSpace string, options ...string) error {
	generic := map[string]any{}
	for i := 0; i < len(options); i += 2 {
		generic[options[i]] = options[i+1]
	}
	return h.CreateNetwork(h.w.ctx, &network.CreateNetworkRequest{
		NetworkID: id, Options: map[string]any{"com.docker.network.generic": generic},
		IPv4Data: []*network.IPAMData{{AddressSpace: addressSpace, Pool: subnet, Gateway: "10.1.0.1/24",
			AuxAddresses: map[string]any{"router": "10.1.0.250/24"}}},
	})
}

func (h *host) remove(id string) error {
	return h.DeleteNetwork(h.w.ctx, &network.DeleteNetworkRequest{NetworkID: id})
}

func (h *host) endpoint(id, endpoint, addr, mac string) (*network.EndpointInterface, error) {
	r, err := h.CreateEndpoint(h.w.ctx, &network.CreateEndpointRequest{
		NetworkID: id, EndpointID: endpoint, Interface: &network.EndpointInterface{Address: addr, MacAddress: mac}})
	if err != nil {
		return nil, err
	}
	return r.Interface, nil
}

// joinHeld starts a Join for which the data plane holds a network, given by the cluster's id, until release is closed; then joined has the result.
func (h *host) joinHeld(cluster, id, endpoint string) (release chan struct{}, joined <-chan error) {
	release = make(chan struct{})
	h.plane.mu.Lock()
	h.plane.block[cluster] = release
	h.plane.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		_, err := h.join(id, endpoint)
		done <- err
	}()
	return release, done
}

func (h *host) join(id, endpoint string) (string, error) {
	r, err := h.Join(h.w.ctx, &network.JoinRequest{NetworkID: id, EndpointID: endpoint})
	if err != nil {
		return "", err
	}
	if r.Gateway != "" || r.GatewayIPv6 != "" || r.DisableGatewayService {
		h.w.Errorf("Join answered a gateway: %+v", r)
	}
	return r.InterfaceName.SrcName, nil
}

func (h *host) leave(id, endpoint string) error {
	return h.Leave(h.w.ctx, &network.LeaveRequest{NetworkID: id, EndpointID: endpoint})
}

func (h *host) delete(id, endpoint string) error {
	return h.DeleteEndpoint(h.w.ctx, &network.DeleteEndpointRequest{NetworkID: id, EndpointID: endpoint})
}

// container is an endpoint that has joined.
func (h *host) container(id, endpoint, addr string) {
	h.w.Helper()
	_, err := h.endpoint(id, endpoint, addr, "")
	h.w.must(err)
	_, err = h.join(id, endpoint)
	h.w.must(err)
}

// netRequest is a network of Docker's own IPAM without gateway.
type netRequest struct{ id, pool string }

func (r *netRequest) request() *network.CreateNetworkRequest {
	return &network.CreateNetworkRequest{NetworkID: r.id, IPv4Data: []*network.IPAMData{{AddressSpace: "LocalDefault", Pool: r.pool}}}
}
