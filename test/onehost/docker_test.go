package onehost

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// object is a JSON object.
type object map[string]any

// docker speaks Docker's protocol to the agent.
type docker struct{ client *http.Client }

func (h *host) docker() *docker {
	var d net.Dialer
	return &docker{&http.Client{Timeout: patience, Transport: &http.Transport{
		MaxIdleConnsPerHost: 128,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", h.path("plugin.sock"))
		},
	}}}
}

// call calls a method as Docker does.
func (d *docker) call(ctx context.Context, method string, args any) (object, error) {
	body, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", method, err)
	}
	defer resp.Body.Close()
	var answer object
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s answers %d: %w", method, resp.StatusCode, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %d: %v", method, resp.StatusCode, answer["Err"])
	}
	return answer, nil
}

// segment is a network as Docker has it on this host.
type segment struct {
	d        *docker
	id, pool string
}

// network makes a network of a subnet.
func (d *docker) network(ctx context.Context, id, subnet string) (*segment, error) {
	pool, err := d.call(ctx, "IpamDriver.RequestPool", object{"AddressSpace": "socketplane", "Pool": subnet})
	if err != nil {
		return nil, err
	}
	n := &segment{d, id, pool["PoolID"].(string)}
	gateway, err := d.call(ctx, "IpamDriver.RequestAddress",
		object{"PoolID": n.pool, "Options": object{"RequestAddressType": "com.docker.network.gateway"}})
	if err != nil {
		return nil, err
	}
	_, err = d.call(ctx, "NetworkDriver.CreateNetwork", object{"NetworkID": id, "Options": object{},
		"IPv4Data": []object{{"AddressSpace": "socketplane", "Pool": pool["Pool"], "Gateway": gateway["Address"]}}})
	return n, err
}

func (n *segment) remove(ctx context.Context) error {
	if _, err := n.d.call(ctx, "IpamDriver.ReleasePool", object{"PoolID": n.pool}); err != nil {
		return err
	}
	_, err := n.d.call(ctx, "NetworkDriver.DeleteNetwork", object{"NetworkID": n.id})
	return err
}

// endpoint is a container's place.
type endpoint struct {
	n        *segment
	id, addr string
	// link is the end that Docker moves into the container.
	link string
}

// mac is one of a number.
func mac(i int) string {
	return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", byte(i>>24), byte(i>>16), byte(i>>8), byte(i))
}

// join does what Docker does when a container starts.
func (n *segment) join(ctx context.Context, id string, i int) (*endpoint, error) {
	addr, err := n.d.call(ctx, "IpamDriver.RequestAddress",
		object{"PoolID": n.pool, "Options": object{"com.docker.network.endpoint.macaddress": mac(i)}})
	if err != nil {
		return nil, err
	}
	text := addr["Address"].(string)
	e := &endpoint{n: n, id: id}
	e.addr, _, _ = strings.Cut(text, "/")
	if _, err := n.d.call(ctx, "NetworkDriver.CreateEndpoint", object{"NetworkID": n.id, "EndpointID": id, "Options": object{},
		"Interface": object{"Address": text, "MacAddress": mac(i)}}); err != nil {
		return e, err
	}
	joined, err := n.d.call(ctx, "NetworkDriver.Join",
		object{"NetworkID": n.id, "EndpointID": id, "SandboxKey": "/var/run/docker/netns/none", "Options": object{}})
	if err != nil {
		return e, err
	}
	e.link = joined["InterfaceName"].(map[string]any)["SrcName"].(string)
	return e, nil
}

// leave does what Docker does when a container ends.
func (e *endpoint) leave(ctx context.Context) error {
	ids := object{"NetworkID": e.n.id, "EndpointID": e.id, "PoolID": e.n.pool, "Address": e.addr}
	for _, method := range []string{"NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "IpamDriver.ReleaseAddress"} {
		if _, err := e.n.d.call(ctx, method, ids); err != nil {
			return err
		}
	}
	return nil
}

// id is a text as Docker's ids are.
func id(prefix string, i int) string { return fmt.Sprintf("%s%0*d", prefix, 64-len(prefix), i) }

// deadline is a context for a test's calls.
func (h *host) deadline(limit time.Duration) context.Context {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), limit)
	h.t.Cleanup(cancel)
	return ctx
}
