package dockerwatch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
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
	IPAMDriver string
	Subnets    []Subnet
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

// Named returns the network with this name, whatever its driver, or ErrNotFound.
func (w *Watcher) Named(ctx context.Context, name string) (Network, error) {
	var wire wireNetwork
	if err := w.get(ctx, "/networks/"+name, nil, &wire); err != nil {
		return Network{}, fmt.Errorf("docker's network %s: %w", name, err)
	}
	if wire.Name != name { // Docker takes the beginning of an id as well
		return Network{}, fmt.Errorf("docker's network %s: %w", name, ErrNotFound)
	}
	return wire.network(), nil
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

// Create makes a network of our driver, with our IPAM, and returns its id.
func (w *Watcher) Create(ctx context.Context, n Network) (string, error) {
	api, err := w.connected()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	opts := client.NetworkCreateOptions{
		Driver: w.opts.Driver, EnableIPv6: &n.IPv6, Internal: n.Internal, Attachable: n.Attachable,
		Options: n.Options, Labels: n.Labels, IPAM: &network.IPAM{Driver: w.opts.Driver},
	}
	for _, s := range n.Subnets {
		opts.IPAM.Config = append(opts.IPAM.Config, network.IPAMConfig{
			Subnet: s.CIDR, IPRange: s.Range, Gateway: s.Gateway, AuxAddress: s.Aux,
		})
	}
	created, err := api.NetworkCreate(ctx, n.Name, opts)
	return created.ID, failed("create network "+n.Name, err)
}

// Remove removes a network by id; that it is gone already is no error.
func (w *Watcher) Remove(ctx context.Context, id string) error {
	api, err := w.connected()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err = api.NetworkRemove(ctx, id, client.NetworkRemoveOptions{})
	if err = failed(fmt.Sprintf("remove network %.12s", id), err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// get asks for JSON in the negotiated version.
func (w *Watcher) get(ctx context.Context, path string, query url.Values, into any) error {
	api, err := w.connected()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	dial := api.Dialer()
	asker := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}}
	where := url.URL{Scheme: "http", Host: client.DummyHost, Path: "/v" + api.ClientVersion() + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
	if err != nil {
		return err
	}
	resp, err := asker.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case resp.StatusCode == http.StatusNotFound:
		return ErrNotFound
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: %s: %.200s", ErrRefused, resp.Status, body)
	}
	return json.Unmarshal(body, into)
}
