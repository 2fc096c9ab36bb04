package plugin_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/plugin"
)

// TestLife is what dockerd sends for a network with one container, in its order, and what it must get.
func TestLife(t *testing.T) {
	a := start(t, newMemory(), plugin.Options{})
	const ids = `"NetworkID":"n1","EndpointID":"e1"`
	for _, step := range []struct{ method, body, want string }{
		{"Plugin.Activate", ``, `{"Implements":["NetworkDriver","IpamDriver"]}`},
		{"NetworkDriver.GetCapabilities", ``, `{"Scope":"local","ConnectivityScope":"global","GwAllocChecker":true}`},
		{"IpamDriver.GetCapabilities", ``, `{"RequiresMACAddress":true,"RequiresRequestReplay":false}`},
		{"IpamDriver.GetDefaultAddressSpaces", ``, `{"LocalDefaultAddressSpace":"socketplane","GlobalDefaultAddressSpace":"socketplane-global"}`},
		{"NetworkDriver.GwAllocCheck", `{"Options":{"com.docker.network.enable_ipv6":false}}`, `{"SkipIPv4":false,"SkipIPv6":false}`},
		{"NetworkDriver.GwAllocCheck", `{"Options":{"com.docker.network.internal":true}}`, `{"SkipIPv4":true,"SkipIPv6":true}`},
		{"NetworkDriver.GwAllocCheck", `{"Options":{"com.docker.network.internal":"x"}}`, `{"SkipIPv4":false,"SkipIPv6":false}`},
		{"IpamDriver.RequestPool", `{"AddressSpace":"socketplane","Pool":"","SubPool":"","Options":null,"V6":false}`, `{"PoolID":"10.1.0.0/24","Pool":"10.1.0.0/24","Data":null}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"10.1.0.0/24","Address":"","Options":{"RequestAddressType":"com.docker.network.gateway"}}`, `{"Address":"10.1.0.1/24","Data":null}`},
		{"NetworkDriver.CreateNetwork", `{"NetworkID":"n1","Options":{"com.docker.network.generic":{}},"IPv4Data":[{"AddressSpace":"socketplane","Pool":"10.1.0.0/24","Gateway":"10.1.0.1/24"}],"IPv6Data":[]}`, `{}`},
		{"IpamDriver.RequestAddress", `{"PoolID":"10.1.0.0/24","Address":"","Options":{"com.docker.network.endpoint.macaddress":"02:42:0a:01:00:02"}}`, `{"Address":"10.1.0.2/24","Data":null}`},
		{"NetworkDriver.CreateEndpoint", `{` + ids + `,"Interface":{"Address":"10.1.0.2/24","AddressIPv6":"","MacAddress":"02:42:0a:01:00:02"},"Options":{"com.docker.network.endpoint.macaddress":"AkIKAQAC"}}`, `{"Interface":null}`},
		{"NetworkDriver.Join", `{` + ids + `,"SandboxKey":"/var/run/docker/netns/1","Options":{}}`, `{"InterfaceName":{"SrcName":"sp0","DstPrefix":"eth"},"Gateway":"","GatewayIPv6":"","StaticRoutes":null,"DisableGatewayService":false}`},
		{"NetworkDriver.ProgramExternalConnectivity", `{` + ids + `,"Options":null}`, `{}`},
		{"NetworkDriver.EndpointOperInfo", `{` + ids + `}`, `{"Value":{"joined":"true"}}`},
		{"NetworkDriver.RevokeExternalConnectivity", `{` + ids + `}`, `{}`},
		{"NetworkDriver.Leave", `{` + ids + `}`, `{}`},
		{"NetworkDriver.DeleteEndpoint", `{` + ids + `}`, `{}`},
		{"IpamDriver.ReleaseAddress", `{"PoolID":"10.1.0.0/24","Address":"10.1.0.2"}`, `{}`},
		{"IpamDriver.ReleasePool", `{"PoolID":"10.1.0.0/24"}`, `{}`},
		{"NetworkDriver.DeleteNetwork", `{"NetworkID":"n1"}`, `{}`},
		{"NetworkDriver.AllocateNetwork", `{"NetworkID":"n2","Options":{"a":"b"},"IPv4Data":[{"Pool":"10.2.0.0/24"}],"IPv6Data":null}`, `{"Options":{"a":"b"}}`},
		{"NetworkDriver.FreeNetwork", `{"NetworkID":"n2"}`, `{}`},
		{"NetworkDriver.DiscoverNew", `{"DiscoveryType":1,"DiscoveryData":{"Address":"192.0.2.1","BindAddress":"192.0.2.1","Self":true}}`, `{}`},
		{"NetworkDriver.DiscoverDelete", `{"DiscoveryType":1,"DiscoveryData":{}}`, `{}`},
	} {
		r := a.call(t, "POST", "/"+step.method, step.body)
		if r.status != 200 || r.body != step.want {
			t.Errorf("%s: got %d %s, want 200 %s", step.method, r.status, r.body, step.want)
		}
		if got := r.header.Get("Content-Type"); got != mimeType {
			t.Errorf("%s: Content-Type %q", step.method, got)
		}
	}
}

func TestScope(t *testing.T) {
	a := start(t, newMemory(), plugin.Options{Scope: "global"})
	r := a.call(t, "POST", "/NetworkDriver.GetCapabilities", "")
	if want := `{"Scope":"global","ConnectivityScope":"global","GwAllocChecker":true}`; r.body != want {
		t.Errorf("got %s, want %s", r.body, want)
	}
}

// TestRefused has the requests that can't be understood, and those that the driver refuses.
func TestRefused(t *testing.T) {
	a := start(t, newMemory(), plugin.Options{MaxBody: 2000})
	id := func(id string) string { return fmt.Sprintf(`{"NetworkID":%q}`, id) }
	for name, c := range map[string]struct {
		verb, path, body string
		status           int
		says             string
	}{
		"empty-body-of-a-retry":  {"POST", "/NetworkDriver.CreateNetwork", "", 400, "repeat"},
		"blank-body":             {"POST", "/IpamDriver.RequestPool", " \n", 400, "no body"},
		"malformed":              {"POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":`, 400, "can't be read"},
		"trailing-garbage":       {"POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"n1"} x`, 400, "can't be read"},
		"two-objects":            {"POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"n1"}{}`, 400, "can't be read"},
		"null":                   {"POST", "/IpamDriver.RequestPool", `null`, 400, "no JSON object"},
		"array":                  {"POST", "/IpamDriver.RequestPool", `[]`, 400, "no JSON object"},
		"wrong-type":             {"POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":7}`, 400, "NetworkID"},
		"null-pool":              {"POST", "/NetworkDriver.CreateNetwork", `{"NetworkID":"n1","IPv4Data":[null]}`, 400, "null"},
		"too-large":              {"POST", "/NetworkDriver.CreateNetwork", id(strings.Repeat("a", 3000)), 413, "2000 bytes"},
		"no-network-id":          {"POST", "/NetworkDriver.DeleteNetwork", `{}`, 400, "NetworkID is missing"},
		"no-endpoint-id":         {"POST", "/NetworkDriver.Leave", id("n1"), 400, "EndpointID is missing"},
		"slash":                  {"POST", "/NetworkDriver.DeleteNetwork", id("../hosts"), 400, "slash"},
		"control-character":      {"POST", "/NetworkDriver.DeleteNetwork", `{"NetworkID":"a\u0000b"}`, 400, "character"},
		"not-utf8":               {"POST", "/NetworkDriver.DeleteNetwork", "{\"NetworkID\":\"a\xff\"}", 400, "character"},
		"long-id":                {"POST", "/NetworkDriver.DeleteNetwork", id(strings.Repeat("a", 257)), 400, "257"},
		"longest-id":             {"POST", "/NetworkDriver.DeleteNetwork", id(strings.Repeat("a", 256)), 200, ""},
		"allocate-without-id":    {"POST", "/NetworkDriver.AllocateNetwork", `{}`, 400, "NetworkID"},
		"free-without-id":        {"POST", "/NetworkDriver.FreeNetwork", `{}`, 400, "NetworkID"},
		"no-pool-id":             {"POST", "/IpamDriver.RequestAddress", `{"PoolID":""}`, 400, "PoolID is missing"},
		"unknown-method":         {"POST", "/NetworkDriver.Fly", `{}`, 404, "NetworkDriver.Fly"},
		"unknown-protocol":       {"POST", "/VolumeDriver.Create", `{}`, 404, "VolumeDriver"},
		"root":                   {"POST", "/", `{}`, 404, "no method"},
		"slashes-are-not-merged": {"POST", "//Plugin.Activate", ``, 404, "no method"},
		"get":                    {"GET", "/Plugin.Activate", ``, 405, "POST"},
		"driver-error":           {"POST", "/NetworkDriver.Join", `{"NetworkID":"n1","EndpointID":"e1"}`, 500, "endpoint e1 is unknown"},
		"ipam-error":             {"POST", "/IpamDriver.RequestAddress", `{"PoolID":"10.9.0.0/24"}`, 500, "pool is unknown"},
		"interface-is-missing":   {"POST", "/NetworkDriver.CreateEndpoint", `{"NetworkID":"n9","EndpointID":"e1"}`, 500, "network n9 is unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			r := a.call(t, c.verb, c.path, c.body)
			if c.status == 200 {
				if r.status != 200 {
					t.Fatalf("got %d %s", r.status, r.body)
				}
				return
			}
			r.wantError(t, c.status, c.says)
			if got := r.header.Get("Content-Type"); got != mimeType {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}
