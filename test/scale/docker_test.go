package scale

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
	made     int
}

// network makes a network of a subnet, with this host's addresses from a part of it ("" for all of it).
func (d *docker) network(ctx context.Context, id, subnet, within string) (*segment, error) {
	pool, err := d.call(ctx, "IpamDriver.RequestPool", object{"AddressSpace": "socketplane", "Pool": subnet, "SubPool": within})
	if err != nil {
		return nil, err
	}
	n := &segment{d: d, id: id, pool: pool["PoolID"].(string)}
	gateway, err := d.call(ctx, "IpamDriver.RequestAddress",
		object{"PoolID": n.pool, "Options": object{"RequestAddressType": "com.docker.network.gateway"}})
	if err != nil {
		return nil, err
	}
	_, err = d.call(ctx, "NetworkDriver.CreateNetwork", object{"NetworkID": id, "Options": object{},
		"IPv4Data": []object{{"AddressSpace": "socketplane", "Pool": pool["Pool"], "Gateway": gateway["Address"]}}})
	return n, err
}

// join does what Docker does when a container starts, and tells how long CreateEndpoint and Join took.
func (n *segment) join(ctx context.Context) (attach time.Duration, err error) {
	number := n.made
	n.made++
	mac := macOf(macLocal, number)
	addr, err := n.d.call(ctx, "IpamDriver.RequestAddress",
		object{"PoolID": n.pool, "Options": object{"com.docker.network.endpoint.macaddress": mac}})
	if err != nil {
		return 0, err
	}
	ids := object{"NetworkID": n.id, "EndpointID": dockerID("ep"+n.id[:12], number), "SandboxKey": "/var/run/docker/netns/none", "Options": object{},
		"Interface": object{"Address": addr["Address"], "MacAddress": mac}}
	began := time.Now()
	for _, method := range []string{"NetworkDriver.CreateEndpoint", "NetworkDriver.Join"} {
		if _, err := n.d.call(ctx, method, ids); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// dockerID is a text as Docker's ids are.
func dockerID(prefix string, i int) string {
	digits := fmt.Sprint(i)
	return prefix + strings.Repeat("0", 64-len(prefix)-len(digits)) + digits
}
