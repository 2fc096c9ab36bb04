package moby

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/docker/docker/libnetwork/ipamapi"
	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/plugin"
)

func TestAddressLife(t *testing.T) {
	d := newDrivers()
	e := setup(t, d)
	local, global, err := e.ipam.GetDefaultAddressSpaces()
	if err != nil || local != plugin.LocalAddressSpace || global != plugin.GlobalAddressSpace || local == global {
		t.Fatalf("address spaces %q, %q: %v", local, global, err)
	}
	pool, err := e.ipam.RequestPool(ipamapi.PoolRequest{AddressSpace: local, Options: map[string]string{"network": "web"}})
	if err != nil {
		t.Fatal(err)
	}
	if pool.Pool != netip.MustParsePrefix("10.1.0.0/24") || pool.Meta["a"] != "b" {
		t.Errorf("pool %+v", pool)
	}
	if r := request[ipam.RequestPoolRequest](d, "RequestPool"); r.AddressSpace != "socketplane" || r.Options["network"] != "web" {
		t.Errorf("RequestPool: %+v", r)
	}
	for ask, want := range map[string]string{"": "10.1.0.1/24", "10.1.0.77": "10.1.0.77/24"} {
		got, _, err := e.ipam.RequestAddress(pool.PoolID, net.ParseIP(ask), map[string]string{"com.docker.network.endpoint.macaddress": "02:42:0a:01:00:02"})
		if err != nil || got.String() != want {
			t.Errorf("RequestAddress(%q): %v, %v", ask, got, err)
		}
	}
	if err := e.ipam.ReleaseAddress(pool.PoolID, net.ParseIP("10.1.0.77")); err != nil {
		t.Error(err)
	}
	if r := request[ipam.ReleaseAddressRequest](d, "ReleaseAddress"); r.PoolID != "10.1.0.0/24" || r.Address != "10.1.0.77" {
		t.Errorf("ReleaseAddress: %+v", r)
	}
	if err := e.ipam.ReleasePool(pool.PoolID); err != nil {
		t.Error(err)
	}
}

// TestErrorsReachTheUser: the driver's text is what `docker` prints, for both protocols, and it is not JSON.
func TestErrorsReachTheUser(t *testing.T) {
	d := newDrivers()
	e := setup(t, d)
	d.fail = errRefused
	_, poolErr := e.ipam.RequestPool(ipamapi.PoolRequest{})
	_, _, addressErr := e.ipam.RequestAddress("10.1.0.0/24", nil, nil)
	for name, err := range map[string]error{
		"CreateNetwork":  e.network.CreateNetwork(t.Context(), "n1", nil, nil, nil, nil),
		"Join":           e.network.Join(t.Context(), "n1", "e1", "", &endpoint{}, nil, nil),
		"DeleteNetwork":  e.network.DeleteNetwork("n1"),
		"RequestPool":    poolErr,
		"RequestAddress": addressErr,
		"ReleasePool":    e.ipam.ReleasePool("10.1.0.0/24"),
	} {
		if err == nil || !strings.HasSuffix(err.Error(), "Driver."+name+": "+errRefused.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
