package moby

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"testing"

	"github.com/docker/docker/libnetwork/driverapi"
	netremote "github.com/docker/docker/libnetwork/drivers/remote"
	"github.com/docker/docker/libnetwork/ipamapi"
	ipamremote "github.com/docker/docker/libnetwork/ipams/remote"
	"github.com/docker/docker/pkg/plugingetter"
	"github.com/docker/docker/pkg/plugins"

	"github.com/socketplane/socketplane/plugin"
)

// engine is the part of dockerd that talks to a plugin, connected to our socket. It registers drivers as
// libnetwork's controller does, and hands out a client as dockerd's plugin store does.
type engine struct {
	client  *plugins.Client
	network driverapi.Driver
	scopes  driverapi.Capability
	ipam    ipamapi.Ipam
	ipamCap *ipamapi.Capability
}

func (e *engine) Handle(_ string, callback func(string, *plugins.Client)) {
	callback("socketplane", e.client)
}

func (e *engine) GetAllManagedPluginsByCap(string) []plugingetter.CompatPlugin { return nil }

func (e *engine) GetAllByCap(string) ([]plugingetter.CompatPlugin, error) { return nil, nil }

func (e *engine) Get(string, string, int) (plugingetter.CompatPlugin, error) {
	return nil, errors.New("not used")
}

func (e *engine) RegisterDriver(_ string, d driverapi.Driver, c driverapi.Capability) error {
	e.network, e.scopes = d, c
	return nil
}

func (e *engine) RegisterIpamDriver(string, ipamapi.Ipam) error {
	return errors.New("the driver has no capabilities")
}

func (e *engine) RegisterIpamDriverWithCapabilities(_ string, i ipamapi.Ipam, c *ipamapi.Capability) error {
	e.ipam, e.ipamCap = i, c
	return nil
}

// serve runs the plugin on path until the returned function is called.
func serve(t *testing.T, d *drivers, path string, opts plugin.Options) (stop func()) {
	t.Helper()
	l, err := plugin.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- plugin.New(d, d, opts).Serve(ctx, l) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// connect activates the plugin as dockerd does at first use.
func connect(t *testing.T, path string) *engine {
	t.Helper()
	client, err := plugins.NewClient("unix://"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var manifest plugins.Manifest
	if err := client.Call("Plugin.Activate", nil, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{driverapi.NetworkPluginEndpointType, ipamapi.PluginEndpointType} {
		if !slices.Contains(manifest.Implements, kind) {
			t.Fatalf("manifest %v lacks %s", manifest.Implements, kind)
		}
	}
	e := &engine{client: client}
	if err := errors.Join(netremote.Register(e, e), ipamremote.Register(e, e)); err != nil {
		t.Fatal(err)
	}
	if e.network == nil || e.ipam == nil {
		t.Fatalf("Docker did not register both drivers: network %v, ipam %v", e.network, e.ipam)
	}
	return e
}

func setup(t *testing.T, d *drivers) *engine {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socketplane.sock")
	t.Cleanup(serve(t, d, path, plugin.Options{}))
	return connect(t, path)
}

// endpoint is libnetwork's view of an endpoint's interface: what is set can't be set again.
type endpoint struct {
	driverapi.InterfaceInfo
	driverapi.JoinInfo
	mac       net.HardwareAddr
	v4, v6    *net.IPNet
	src, dst  string
	gw, gw6   net.IP
	routes    []string
	hasNoGwbr bool
}

func (e *endpoint) MacAddress() net.HardwareAddr { return e.mac }
func (e *endpoint) Address() *net.IPNet          { return e.v4 }
func (e *endpoint) AddressIPv6() *net.IPNet      { return e.v6 }

func (e *endpoint) SetMacAddress(mac net.HardwareAddr) error {
	if e.mac != nil {
		return errors.New("has a MAC address")
	}
	e.mac = mac
	return nil
}

func (e *endpoint) SetIPAddress(ip *net.IPNet) error {
	slot := &e.v4
	if ip.IP.To4() == nil {
		slot = &e.v6
	}
	if *slot != nil {
		return errors.New("has an address")
	}
	*slot = ip
	return nil
}

func (e *endpoint) InterfaceName() driverapi.InterfaceNameInfo { return e }

func (e *endpoint) SetNames(src, prefix, _ string) error {
	e.src, e.dst = src, prefix
	return nil
}

func (e *endpoint) SetGateway(ip net.IP) error     { e.gw = ip; return nil }
func (e *endpoint) SetGatewayIPv6(ip net.IP) error { e.gw6 = ip; return nil }
func (e *endpoint) DisableGatewayService()         { e.hasNoGwbr = true }

func (e *endpoint) AddStaticRoute(dst *net.IPNet, _ int, hop net.IP) error {
	e.routes = append(e.routes, dst.String()+" "+hop.String())
	return nil
}
