package driver_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/driver"
)

// TestOptionsOfNetworks: what asks for isolation that would not be there is refused and leaves nothing behind; what asks for
// what is done anyway is taken.
func TestOptionsOfNetworks(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	for _, c := range [][2]string{
		{"com.docker.network.bridge.enable_icc", "false"}, {"com.docker.network.bridge.gateway_mode_ipv4", "isolated"},
		{"com.docker.network.bridge.unheard_of", "1"}, {"com.docker.network.enable_ipv6", "true"}, {"com.docker.network.enable_ipv4", "false"},
		{"parent", "eth0"}, {"encrypted", ""},
	} {
		w.wants(a.create("n1", space, c[0], c[1]), driver.ErrBadRequest, c[0])
		w.clean(a)
	}
	w.must(a.create("n1", space, "com.docker.network.bridge.enable_icc", "true", "com.docker.network.driver.mtu", "1400",
		"com.docker.network.container_iface_prefix", "web"))
	a.boot() // the journal has it
	_, err := a.endpoint("n1", "e1", "10.1.0.2/24", "")
	w.must(err)
	r, err := a.Join(w.ctx, &network.JoinRequest{NetworkID: "n1", EndpointID: "e1"})
	w.must(err)
	if got := r.InterfaceName; got.DstPrefix != "web" || got.DstName != "" || got.SrcName == "" {
		t.Errorf("interface %+v", got)
	}
	a.plane.mu.Lock()
	defer a.plane.mu.Unlock()
	for _, n := range a.plane.networks {
		if n.MTU != 1400 {
			t.Errorf("MTU %d", n.MTU)
		}
	}
}

// TestUnusableSubnet: a subnet in which no container could have an address is refused at once where Docker chooses the addresses, too.
func TestUnusableSubnet(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	for _, subnet := range []string{"127.0.0.0/8", "224.0.0.0/8", "0.0.0.0/8", "fe80::/64", "ff02::/64", "10.1.1.1/32"} {
		r := &netRequest{"n1", subnet}
		w.wants(a.CreateNetwork(w.ctx, r.request()), driver.ErrBadRequest, subnet)
	}
	w.clean(a)
}

// TestInterfaceName: a name that was asked for is answered, also after the agent's restart. Who repeats CreateEndpoint gets the same.
func TestInterfaceName(t *testing.T) {
	const key = "com.docker.network.endpoint.ifname"
	w := newWorld(t)
	a := w.host("a")
	w.must(a.create("n1", space))
	ask := func(id string, options map[string]any) error {
		_, err := a.CreateEndpoint(w.ctx, &network.CreateEndpointRequest{NetworkID: "n1", EndpointID: id, Options: options,
			Interface: &network.EndpointInterface{Address: "10.1.0." + strings.TrimPrefix(id, "e") + "/24"}})
		return err
	}
	w.must(ask("e2", map[string]any{
		key: "foo0", "com.docker.network.endpoint.macaddress": base64.StdEncoding.EncodeToString([]byte{2, 0, 0, 0, 0, 1}),
		"com.docker.network.endpoint.exposedports": []any{map[string]any{"Proto": 6, "Port": 80}}, "com.docker.network.portmap": nil,
	}))
	for _, name := range []string{"lo", "a/b", "a b", "..", "sixteen-bytes-16", ""} {
		w.wants(ask("e3", map[string]any{key: name}), driver.ErrBadRequest, key)
	}
	w.wants(ask("e3", map[string]any{"isolated": "yes"}), driver.ErrBadRequest, "isolated")
	a.boot()
	r, err := a.Join(w.ctx, &network.JoinRequest{NetworkID: "n1", EndpointID: "e2"})
	w.must(err)
	text, err := json.Marshal(r)
	w.must(err)
	if !strings.Contains(string(text), `"DstName":"foo0"`) || strings.Count(string(text), `"InterfaceName"`) != 1 {
		t.Errorf("answer %s", text)
	}
	w.must(a.delete("n1", "e2"))
	w.must(a.remove("n1"))
	w.clean(a)
}

// TestInterfaceNameOnOldEngines: an engine that ignores the name is not given it in silence.
func TestInterfaceNameOnOldEngines(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	a.api = "1.41"
	a.boot()
	w.must(a.create("n1", space))
	_, err := a.CreateEndpoint(w.ctx, &network.CreateEndpointRequest{NetworkID: "n1", EndpointID: "e1",
		Options:   map[string]any{"com.docker.network.endpoint.ifname": "foo0"},
		Interface: &network.EndpointInterface{Address: "10.1.0.2/24"}})
	w.wants(err, driver.ErrBadRequest, "1.41")
}

// TestAdmission: who may have no network leaves nothing behind; who may be another engine is marked, also after a restart.
func TestAdmission(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	stranger := errors.New("another engine")
	a.admit = func(context.Context) (string, error) { return "", stranger }
	w.wants(a.create("n1", space), stranger)
	w.clean(a)
	a.admit = func(context.Context) (string, error) { return "12@34", nil }
	w.must(a.create("n1", space))
	a.boot()
	if all := a.Networks(); len(all) != 1 || all[0].Engine != "12@34" {
		t.Errorf("networks %+v", all)
	}
}
