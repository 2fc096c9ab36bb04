// Package libnetwork calls a network and IPAM driver as Docker's libnetwork does, in its order, without a Docker.
//
// It owns the calls' form only. It may import the standard library, and must not know whose driver it is.
package libnetwork

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Object is a JSON object.
type Object map[string]any

// Client calls the driver that serves one socket. It is safe for concurrent use.
type Client struct{ http *http.Client }

// New makes a client whose calls are bounded by limit. It keeps up to idle connections between calls; with 0 each call has a connection of its
// own, as those to a driver that was killed are of no use.
func New(socket string, limit time.Duration, idle int) *Client {
	var d net.Dialer
	return &Client{&http.Client{Timeout: limit, Transport: &http.Transport{
		MaxIdleConnsPerHost: idle, DisableKeepAlives: idle == 0,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
	}}}
}

// Call calls a method and gives its answer; an answer that is an error of the driver's has its text.
func (c *Client) Call(ctx context.Context, method string, args any) (Object, error) {
	body, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	var answer Object
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("%s answers %d %q: %w", method, resp.StatusCode, text, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d: %v", method, resp.StatusCode, answer["Err"])
	}
	return answer, nil
}

// ID is a text as Docker's ids are: 64 characters, which begin with the prefix and end with the number.
func ID(prefix string, i int) string { return fmt.Sprintf("%s%0*d", prefix, 64-len(prefix), i) }

// MAC is an address that begins with two bytes ("02:42") and ends with the number.
func MAC(prefix string, i int) string {
	return fmt.Sprintf("%s:%02x:%02x:%02x:%02x", prefix, byte(i>>24), byte(i>>16), byte(i>>8), byte(i))
}
