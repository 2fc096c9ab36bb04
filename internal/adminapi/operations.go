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

// Networks asks for the cluster's networks.
func (c *Client) Networks(ctx context.Context) ([]NetworkDetail, error) {
	var list networkList
	err := c.get(ctx, pathNetworks, &list)
	return list.Networks, err
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
func (c *Client) Endpoints(ctx context.Context) ([]Endpoint, error) {
	var list endpointList
	err := c.get(ctx, pathEndpoints, &list)
	return list.Endpoints, err
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
