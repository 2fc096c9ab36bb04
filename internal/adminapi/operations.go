package adminapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// queryNetwork names the one network whose endpoints are asked for.
const queryNetwork = "network"

// Networks asks for the cluster's networks, without their addresses.
func (c *Client) Networks(ctx context.Context) ([]NetworkDetail, error) {
	var all []NetworkDetail
	err := getList(ctx, c, pathNetworks, "networks", func(n NetworkDetail) error { all = append(all, n); return nil })
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

// Endpoints asks for all endpoints of the cluster.
func (c *Client) Endpoints(ctx context.Context) ([]Endpoint, error) { return c.EndpointsOn(ctx, "") }

// EndpointsOn asks for the endpoints on one network, given by name or ID; those of all if it is empty.
func (c *Client) EndpointsOn(ctx context.Context, network string) ([]Endpoint, error) {
	path := pathEndpoints
	if network != "" {
		path += "?" + url.Values{queryNetwork: {network}}.Encode()
	}
	var all []Endpoint
	err := getList(ctx, c, path, "endpoints", func(e Endpoint) error { all = append(all, e); return nil })
	return all, err
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
