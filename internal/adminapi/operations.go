package adminapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

const (
	// queryNetwork names the one network whose endpoints are asked for.
	queryNetwork = "network"
	// queryDetail asks for the network beside its endpoints, if it is not empty.
	queryDetail = "detail"
)

// Networks asks for the cluster's networks, without their addresses.
func (c *Client) Networks(ctx context.Context) ([]NetworkDetail, error) {
	var all []NetworkDetail
	err := getList(ctx, c, pathNetworks, "networks", func(n NetworkDetail) error { all = append(all, n); return nil }, nil)
	return all, err
}

// Network asks for one network, given by name, ID, or the beginning of one network's ID.
func (c *Client) Network(ctx context.Context, network string) (NetworkDetail, error) {
	var n NetworkDetail
	err := c.get(ctx, pathNetworks+"/"+segment(network), &n)
	return n, err
}

// CreateNetwork asks for a new network.
func (c *Client) CreateNetwork(ctx context.Context, r NetworkRequest) (NetworkDetail, error) {
	var made NetworkDetail
	err := c.ask(ctx, http.MethodPost, pathNetworks, r, &made)
	return made, err
}

// RemoveNetwork asks that a network go from all hosts.
func (c *Client) RemoveNetwork(ctx context.Context, network string) error {
	return c.ask(ctx, http.MethodDelete, pathNetworks+"/"+segment(network), nil, &status{})
}

// AttachNetwork asks that this host have a network again.
func (c *Client) AttachNetwork(ctx context.Context, network string) error {
	return c.ask(ctx, http.MethodPost, pathNetworks+"/"+segment(network)+"/attach", nil, &status{})
}

// RemoveHost asks that a host be forgotten.
func (c *Client) RemoveHost(ctx context.Context, host string) error {
	return c.ask(ctx, http.MethodDelete, pathHosts+"/"+segment(host), nil, &status{})
}

// Endpoints asks for all endpoints of the cluster, sorted by network, container and ID.
func (c *Client) Endpoints(ctx context.Context) ([]Endpoint, error) { return c.EndpointsOn(ctx, "") }

// EndpointsOn asks for the endpoints on one network, given by name or ID; those of all if it is empty. They are sorted by network,
// container and ID.
func (c *Client) EndpointsOn(ctx context.Context, network string) ([]Endpoint, error) {
	path := pathEndpoints
	if network != "" {
		path += "?" + url.Values{queryNetwork: {network}}.Encode()
	}
	var all []Endpoint
	err := getList(ctx, c, path, "endpoints", func(e Endpoint) error { all = append(all, e); return nil }, nil)
	sortEndpoints(all)
	return all, err
}

// Inspect asks for one network, given by name, ID, or the beginning of one network's ID, and its endpoints, sorted by container and ID.
func (c *Client) Inspect(ctx context.Context, network string) (NetworkDetail, []Endpoint, error) {
	var all []Endpoint
	var n *NetworkDetail
	query := url.Values{queryNetwork: {network}, queryDetail: {"true"}}
	err := getList(ctx, c, pathEndpoints+"?"+query.Encode(), "endpoints", func(e Endpoint) error { all = append(all, e); return nil },
		map[string]any{"network": &n})
	if err != nil {
		return NetworkDetail{}, nil, err
	}
	if n == nil { // an agent of before
		return c.inspectFormer(ctx, network)
	}
	sortEndpoints(all)
	return *n, all, nil
}

// inspectFormer is Inspect by two questions, for agents that do not know it as one.
func (c *Client) inspectFormer(ctx context.Context, network string) (NetworkDetail, []Endpoint, error) {
	n, err := c.Network(ctx, network)
	if err != nil {
		return n, nil, err
	}
	all, err := c.EndpointsOn(ctx, n.ID)
	return n, slices.DeleteFunc(all, func(e Endpoint) bool { return e.NetworkID != n.ID }), err // another may have the id for a name
}

// sortEndpoints sorts by network, container and ID.
func sortEndpoints(all []Endpoint) {
	slices.SortFunc(all, func(a, b Endpoint) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), cmp.Compare(a.NetworkID, b.NetworkID), cmp.Compare(a.Container, b.Container), cmp.Compare(a.ID, b.ID))
	})
}

// Doctor asks the agent to look at its host.
func (c *Client) Doctor(ctx context.Context) ([]Check, error) {
	var list checkList
	err := c.get(ctx, pathDoctor, &list)
	return list.Checks, err
}

// segment writes a name that a user typed as one part of a path, whatever it is: slashes are escaped, and so are dots,
// because "." and ".." are removed from a path before it is looked at.
func segment(name string) string { return strings.ReplaceAll(url.PathEscape(name), ".", "%2E") }

// ask sends a request whose answer is JSON.
func (c *Client) ask(ctx context.Context, method, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://agent"+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	return c.do(req, into)
}
