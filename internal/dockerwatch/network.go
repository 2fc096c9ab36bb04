package dockerwatch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// maxAnswer is the largest list that is read, in bytes; a network takes about a kilobyte.
const maxAnswer = 64 << 20

// Network is one of Docker's networks.
type Network struct {
	ID, Name, Driver string
	IPv6             bool
	Internal         bool
	Attachable       bool
	Options, Labels  map[string]string
	// IPAMDriver is "default" for Docker's own.
	IPAMDriver  string
	IPAMOptions map[string]string // are only given, not told
	Subnets     []Subnet
}

// Subnet is one IPAM configuration; what was not given is invalid.
type Subnet struct {
	CIDR    netip.Prefix
	Range   netip.Prefix
	Gateway netip.Addr
	Aux     map[string]netip.Addr
}

// wireNetwork is what Docker answers. Addresses are text: older engines give gateways with a prefix length, which the
// client's own types refuse, and the whole list with them.
type wireNetwork struct {
	ID         string `json:"Id"`
	Name       string
	Driver     string
	EnableIPv6 bool
	Internal   bool
	Attachable bool
	// ConfigOnly marks a template of --config-only for --config-from: Docker lists its configuration, and uses none of it.
	ConfigOnly bool
	Options    map[string]string
	Labels     map[string]string
	IPAM       struct {
		Driver string
		Config []struct {
			Subnet             string
			IPRange            string
			Gateway            string
			AuxiliaryAddresses map[string]string
		}
	}
}

// Networks lists the networks of our driver.
func (w *Watcher) Networks(ctx context.Context) ([]Network, error) {
	filters, err := json.Marshal(map[string][]string{"driver": {w.opts.Driver}})
	if err != nil {
		return nil, err
	}
	var wire []wireNetwork
	if err := w.get(ctx, "/networks", url.Values{"filters": {string(filters)}}, &wire); err != nil {
		return nil, fmt.Errorf("docker's networks: %w", err)
	}
	networks := make([]Network, len(wire))
	for i, n := range wire {
		networks[i] = n.network()
	}
	return networks, nil
}

// Network is the network with this id, whatever its driver, or ErrNotFound.
func (w *Watcher) Network(ctx context.Context, id string) (Network, error) {
	var wire wireNetwork
	if err := w.get(ctx, "/networks/"+id, nil, &wire); err != nil {
		return Network{}, fmt.Errorf("docker's network %.12s: %w", id, err)
	}
	return wire.network(), nil
}

// Pools are the subnets of all networks, whatever their driver, whose addresses our IPAM driver gives.
func (w *Watcher) Pools(ctx context.Context) (map[netip.Prefix]bool, error) {
	var wire []wireNetwork
	if err := w.get(ctx, "/networks", nil, &wire); err != nil {
		return nil, fmt.Errorf("docker's networks: %w", err)
	}
	pools := map[netip.Prefix]bool{}
	for _, n := range wire {
		if n.IPAM.Driver != w.opts.Driver || n.ConfigOnly {
			continue
		}
		for _, c := range n.IPAM.Config {
			if p := prefix(c.Subnet); p.IsValid() {
				pools[p] = true
			}
		}
	}
	return pools, nil
}

// Addresses are those that containers have on networks of other drivers whose addresses our IPAM driver gives. Docker
// lists a container only after its start.
func (w *Watcher) Addresses(ctx context.Context) (map[netip.Addr]bool, error) {
	var wire []wireNetwork
	if err := w.get(ctx, "/networks", nil, &wire); err != nil {
		return nil, fmt.Errorf("docker's networks: %w", err)
	}
	addrs := map[netip.Addr]bool{}
	for _, n := range wire {
		if n.IPAM.Driver != w.opts.Driver || n.Driver == w.opts.Driver {
			continue
		}
		var full struct {
			Containers map[string]struct{ IPv4Address, IPv6Address string }
		}
		if err := w.get(ctx, "/networks/"+n.ID, nil, &full); errors.Is(err, ErrNotFound) {
			continue // it was removed meanwhile
		} else if err != nil {
			return nil, fmt.Errorf("docker's network %q: %w", n.Name, err)
		}
		for _, c := range full.Containers {
			addrs[addr(c.IPv4Address)], addrs[addr(c.IPv6Address)] = true, true
		}
	}
	delete(addrs, netip.Addr{}) // what is not given
	return addrs, nil
}

// Named returns the network with this name, whatever its driver, or ErrNotFound. It looks through Docker's list: a name may
// be another network's id, and may have characters that Docker's router takes for something else (a//b, x/../y).
func (w *Watcher) Named(ctx context.Context, name string) (Network, error) {
	var wire []wireNetwork
	query, err := byName(name)
	if err != nil {
		return Network{}, err
	}
	if err := w.get(ctx, "/networks", query, &wire); err != nil {
		return Network{}, fmt.Errorf("docker's networks: %w", err)
	}
	for _, n := range wire {
		if n.Name == name {
			return n.network(), nil
		}
	}
	return Network{}, fmt.Errorf("docker's network %q: %w", name, ErrNotFound)
}

// plainName has no character that means something else in a regular expression than itself, but for the dot, which means any: Docker takes the
// filter for one, and lists what it matches anywhere.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9_.-]+$`)

// byName narrows a list of networks to some that have the one with the name among them.
func byName(name string) (url.Values, error) {
	if !plainName.MatchString(name) {
		return nil, nil
	}
	filters, err := json.Marshal(map[string][]string{"name": {name}})
	return url.Values{"filters": {string(filters)}}, err
}

// Endpoints tells which endpoints Docker knows of on one of its networks, given by id.
func (w *Watcher) Endpoints(ctx context.Context, id string) (map[string]bool, error) {
	var wire struct {
		Containers map[string]struct{ EndpointID string }
	}
	if err := w.get(ctx, "/networks/"+id, nil, &wire); err != nil {
		return nil, fmt.Errorf("docker's network %.12s: %w", id, err)
	}
	known := make(map[string]bool, len(wire.Containers))
	for _, c := range wire.Containers {
		known[c.EndpointID] = true
	}
	return known, nil
}

func (n wireNetwork) network() Network {
	out := Network{
		ID: n.ID, Name: n.Name, Driver: n.Driver, IPv6: n.EnableIPv6, Internal: n.Internal, Attachable: n.Attachable,
		Options: n.Options, Labels: n.Labels, IPAMDriver: n.IPAM.Driver,
	}
	for _, c := range n.IPAM.Config {
		s := Subnet{CIDR: prefix(c.Subnet), Range: prefix(c.IPRange), Gateway: addr(c.Gateway)}
		for name, text := range c.AuxiliaryAddresses {
			if s.Aux == nil {
				s.Aux = map[string]netip.Addr{}
			}
			s.Aux[name] = addr(text)
		}
		if s.CIDR.IsValid() {
			out.Subnets = append(out.Subnets, s)
		}
	}
	return out
}

// prefix reads a CIDR; anything else counts as not given.
func prefix(text string) netip.Prefix {
	p, _ := netip.ParsePrefix(text)
	return p.Masked()
}

// addr reads an address with or without a prefix length; anything else counts as not given.
func addr(text string) netip.Addr {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr()
	}
	a, _ := netip.ParseAddr(text)
	return a
}

// wireCreate asks for a network. It is not the client's own type, as that has no CheckDuplicate, without which
// engines before 25 make a second network of the same name.
type wireCreate struct {
	network.CreateRequest
	CheckDuplicate bool
}

// ipv4Choice is the API version from which Docker makes networks without IPv4 (Engine 28.0). Older ones ignore the wish, and ask for an
// IPv4 subnet as well.
var ipv4Choice = [2]int{1, 48}

// families says whether a network has IPv4, or an error that wraps ErrRefused if this engine can't make it without.
func (w *Watcher) families(n Network) (ipv4 bool, err error) {
	if len(n.Subnets) == 0 || slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return s.CIDR.Addr().Is4() }) {
		return true, nil
	}
	var have [2]int
	if _, err := fmt.Sscanf(w.APIVersion(), "%d.%d", &have[0], &have[1]); err != nil || slices.Compare(have[:], ipv4Choice[:]) < 0 {
		return false, fmt.Errorf("%w: this host's Docker Engine (API %s) can't make a network without IPv4: upgrade Docker to 28 or later here, "+
			"or create the network with an IPv4 subnet as well", ErrRefused, w.APIVersion())
	}
	return false, nil
}

// Create makes a network of our driver, with our IPAM and exactly the IP families of its subnets, and returns its id.
func (w *Watcher) Create(ctx context.Context, n Network) (string, error) {
	ipv4, err := w.families(n)
	if err != nil {
		return "", err
	}
	r := wireCreate{CheckDuplicate: true, CreateRequest: network.CreateRequest{
		Name: n.Name, Driver: w.opts.Driver, EnableIPv4: &ipv4, EnableIPv6: &n.IPv6, Internal: n.Internal, Attachable: n.Attachable,
		Options: n.Options, Labels: n.Labels, IPAM: &network.IPAM{Driver: w.opts.Driver, Options: n.IPAMOptions},
	}}
	for _, s := range n.Subnets {
		r.IPAM.Config = append(r.IPAM.Config, network.IPAMConfig{
			Subnet: s.CIDR, IPRange: s.Range, Gateway: s.Gateway, AuxAddress: s.Aux,
		})
	}
	var created struct {
		ID string `json:"Id"`
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	crashpoint.Hit("docker: create a network")
	if err := w.call(ctx, http.MethodPost, "/networks/create", nil, r, &created); err != nil {
		return "", fmt.Errorf("create docker network %q: %w", n.Name, err)
	}
	crashpoint.Hit("docker: network created")
	return created.ID, nil
}

// Remove removes a network by id; that it is gone already is no error.
func (w *Watcher) Remove(ctx context.Context, id string) error {
	api, err := w.connected()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	crashpoint.Hit("docker: remove a network")
	_, err = api.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	crashpoint.Hit("docker: network removed")
	if err = failed(fmt.Sprintf("remove network %.12s", id), err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// get asks for JSON in the negotiated version.
func (w *Watcher) get(ctx context.Context, path string, query url.Values, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return w.call(ctx, http.MethodGet, path, query, nil, into)
}

// call asks for JSON; an answer other than 2xx is an error.
func (w *Watcher) call(ctx context.Context, method, path string, query url.Values, body, into any) error {
	status, answer, err := w.request(ctx, method, path, query, body)
	switch {
	case err != nil:
		return err
	case status/100 == 2:
		return json.Unmarshal(answer, into)
	case status == http.StatusNotFound && method == http.MethodGet:
		return fmt.Errorf("%w: %s", ErrNotFound, said(status, answer))
	}
	return fmt.Errorf("%w: %s", ErrRefused, said(status, answer))
}

// said are Docker's words in an answer that is an error.
func said(status int, answer []byte) string {
	var said struct{ Message string }
	if json.Unmarshal(answer, &said) != nil {
		return fmt.Sprintf("%d %s", status, http.StatusText(status))
	}
	return said.Message
}

// request sends one request and reads the whole answer.
func (w *Watcher) request(ctx context.Context, method, path string, query url.Values, body any) (status int, answer []byte, err error) {
	api, err := w.connected()
	if err != nil {
		return 0, nil, err
	}
	dial := api.Dialer()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	where := url.URL{Scheme: "http", Host: client.DummyHost, Path: "/v" + api.ClientVersion() + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, where.String(), bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return resp.StatusCode, answer, nil
}
