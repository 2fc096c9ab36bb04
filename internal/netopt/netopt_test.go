package netopt_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/netopt"
)

// refused are options that ask for what SocketPlane does not do. moby#40210 and others ask for the first; a driver that takes them
// in silence leaves containers open that their owner believes to be shut off.
var refused = []struct{ key, value, cure string }{
	{"com.docker.network.bridge.enable_icc", "false", "networks of their own"},
	{"com.docker.network.bridge.enable_icc", "0", "networks of their own"},
	{"com.docker.network.bridge.enable_icc", "no", "neither true nor false"},
	{"com.docker.network.bridge.enable_ip_masquerade", "false", "--internal"},
	{"com.docker.network.bridge.gateway_mode_ipv4", "isolated", "--internal"},
	{"com.docker.network.bridge.gateway_mode_ipv4", "routed", "--internal"},
	{"com.docker.network.bridge.gateway_mode_ipv4", "nat-unprotected", "--internal"},
	{"com.docker.network.bridge.gateway_mode_ipv6", "isolated", "--internal"},
	{"com.docker.network.bridge.gateway_mode_ipv6", "routed", "--internal"},
	{"com.docker.network.bridge.inhibit_ipv4", "true", "leave it out"},
	{"com.docker.network.bridge.trusted_host_interfaces", "eth0", "leave it out"},
	{"com.docker.network.bridge.host_binding_ipv4", "127.0.0.1", "-p"},
	{"com.docker.network.bridge.name", "br0", "leave it out"},
	{"com.docker.network.bridge.default_bridge", "true", "leave it out"},
	{"com.docker.network.bridge.unheard_of", "1", "leave it out"},
	{"com.docker.network.container_iface_prefix", "averylongprefix", "at most 11"},
	{"com.docker.network.host_ipv4", "192.0.2.1", "leave it out"},
	{"com.docker.network.host_ipv6", "2001:db8::1", "leave it out"},
	{"com.docker.network.driver.overlay.vxlanid_list", "4097", "leave it out"},
	{"com.docker.network.enable_ipv6", "maybe", "neither true nor false"},
	{"com.docker.network.driver.mtu", "100", "576"},
	{"com.docker.network.unheard_of", "", "leave it out"},
	{"encrypted", "", "does not encrypt"},
	{"encrypted", "true", "does not encrypt"},
	{"parent", "eth0", "macvlan or ipvlan"},
	{"macvlan_mode", "private", "macvlan or ipvlan"},
	{"ipvlan_mode", "l3", "macvlan or ipvlan"},
	{"ipvlan_flag", "private", "macvlan or ipvlan"},
	{"mtu", "big", "576"},
	{"mtu", "70000", "576"},
	{"network", "../x", "name"},
	{"colour", "red", "leave it out"},
	{"", "", "leave it out"},
}

func TestRefusedNetworks(t *testing.T) {
	for _, c := range refused {
		_, err := netopt.ParseNetwork(map[string]string{c.key: c.value})
		if err == nil {
			t.Errorf("-o %s=%s is taken in silence", c.key, c.value)
			continue
		}
		if text := err.Error(); !strings.Contains(text, c.key) || !strings.Contains(text, c.cure) || len(text) < 40 {
			t.Errorf("-o %s=%s: %q names not both the option and the cure %q", c.key, c.value, text, c.cure)
		}
	}
}

func TestAcceptedNetworks(t *testing.T) {
	yes := true
	for _, c := range []struct {
		options map[string]string
		want    netopt.Network
	}{
		{nil, netopt.Network{}},
		{map[string]string{"network": "web", "mtu": "1400"}, netopt.Network{Name: "web", MTU: 1400}},
		{map[string]string{"com.docker.network.driver.mtu": "1400", "mtu": "1400"}, netopt.Network{MTU: 1400}},
		{map[string]string{"com.docker.network.container_iface_prefix": "web"}, netopt.Network{IfPrefix: "web"}},
		{map[string]string{
			"com.docker.network.bridge.enable_icc": "true", "com.docker.network.bridge.enable_ip_masquerade": "1",
			"com.docker.network.bridge.gateway_mode_ipv4": "nat", "com.docker.network.bridge.gateway_mode_ipv6": "",
			"com.docker.network.bridge.inhibit_ipv4": "false", "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
			"com.docker.network.bridge.default_bridge": "false", "com.docker.network.bridge.trusted_host_interfaces": "",
			"com.docker.network.advertise_addr_nmsgs": "2", "encrypted": "false",
		}, netopt.Network{}},
	} {
		got, err := netopt.ParseNetwork(c.options)
		if err != nil || got != c.want {
			t.Errorf("%v: %+v, %v; want %+v", c.options, got, err, c.want)
		}
	}
	got, err := netopt.ParseNetwork(map[string]string{"com.docker.network.enable_ipv6": "true"})
	if err != nil || got.IPv6 == nil || *got.IPv6 != yes || got.CheckFamilies(true, true) != nil {
		t.Errorf("enable_ipv6: %+v, %v", got, err)
	}
	if err := got.CheckFamilies(true, false); err == nil || !strings.Contains(err.Error(), "--ipv6") {
		t.Errorf("a network without IPv6 takes enable_ipv6=true: %v", err)
	}
	if _, err := netopt.ParseNetwork(map[string]string{"com.docker.network.driver.mtu": "1400", "mtu": "1300"}); err == nil {
		t.Error("two MTUs are taken")
	}
}

// badNames can't be, or should not be, the name of an interface. The kernel makes a pattern of the percent sign.
var badNames = []string{"", ".", "..", "lo", "all", "default", "a/b", "a b", "a\tb", "a:b", "eth%d", "sixteen-bytes-16", "naïve", "a\x00b", `a"b`}

func TestInterfaceNames(t *testing.T) {
	const key = "com.docker.network.endpoint.ifname"
	for _, name := range badNames {
		_, err := netopt.ParseEndpoint(map[string]string{key: name}, "1.56")
		if err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"foo0", "web", "fifteen-bytes-5", "eth7", "a.b_c-d", "x"} {
		for _, api := range []string{"", "1.56", "1.60", "2.0", "strange"} {
			e, err := netopt.ParseEndpoint(map[string]string{key: name}, api)
			if err != nil || e.IfName != name {
				t.Errorf("%q with API %q: %+v, %v", name, api, e, err)
			}
		}
		for _, api := range []string{"1.41", "1.55", "1.6"} {
			_, err := netopt.ParseEndpoint(map[string]string{key: name}, api)
			if err == nil || !strings.Contains(err.Error(), "upgrade Docker") || !strings.Contains(err.Error(), api) {
				t.Errorf("%q with API %q, which ignores it: %v", name, api, err)
			}
		}
	}
}

func TestEndpoints(t *testing.T) {
	e, err := netopt.ParseEndpoint(map[string]string{
		"com.docker.network.endpoint.macaddress": "AkLAqAAC", "com.docker.network.endpoint.new": "1", "com.docker.network.another": "x",
	}, "1.56")
	if err != nil || fmt.Sprint(e.Unknown) != "[com.docker.network.another com.docker.network.endpoint.new]" {
		t.Errorf("a newer engine's options: %+v, %v", e, err)
	}
	for key, cure := range map[string]string{
		"com.docker.network.bridge.enable_icc": "network create", "com.docker.network.bridge.gateway_mode_ipv4": "network create",
		"com.docker.network.driver.mtu": "network create", "mtu": "leave it out", "isolated": "leave it out",
	} {
		_, err := netopt.ParseEndpoint(map[string]string{key: "1400"}, "")
		if err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), cure) {
			t.Errorf("driver-opt %s: %v", key, err)
		}
	}
	if _, err := netopt.ParseEndpoint(map[string]string{"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}, "1.41"); err == nil {
		t.Error("settings of an interface are taken by an engine that ignores them")
	}
}

func TestIPAM(t *testing.T) {
	got, err := netopt.ParseIPAM(map[string]string{"network": "web", "socketplane.fill": "top", "com.docker.network.ipam.serial": "true"})
	if err != nil || got != (netopt.IPAM{Name: "web", Top: true}) {
		t.Errorf("%+v, %v", got, err)
	}
	for key, value := range map[string]string{"network": "../x", "socketplane.fill": "bottom", "com.docker.network.ipam.x": "", "colour": "red"} {
		if _, err := netopt.ParseIPAM(map[string]string{key: value}); err == nil || !strings.Contains(err.Error(), "--ipam-opt "+key) {
			t.Errorf("--ipam-opt %s=%s: %v", key, value, err)
		}
	}
}

func TestCopied(t *testing.T) {
	given := map[string]string{"network": "web", "mtu": "1400"}
	if got := netopt.Copied(given); len(got) != 1 || got["mtu"] != "1400" || len(given) != 2 {
		t.Errorf("copies get %v of %v", got, given)
	}
}

// TestDocumented: docs/options.md has each row as it is here.
func TestDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/options.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"-o": table(netopt.Networks(), true), "driver-opt": table(netopt.Endpoints(), false), "--ipam-opt": table(netopt.IPAMs(), false),
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("docs/options.md lacks the table of %s as it is:\n%s", name, want)
		}
	}
}

// table is that of rows as docs/options.md has it, with the rule of merging where options have several.
func table[T any](rows []netopt.Row[T], merge bool) string {
	var b strings.Builder
	if merge {
		b.WriteString("| option | accepted | another host | why |\n| --- | --- | --- | --- |\n")
	} else {
		b.WriteString("| option | accepted | why |\n| --- | --- | --- |\n")
	}
	for _, r := range rows {
		help := r.Help
		if r.Since != "" {
			help += "; needs an engine with API " + r.Since
		}
		if merge {
			help = string(r.Merge) + " | " + help
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", r.Key, r.Values, help)
	}
	return b.String()
}

func FuzzOptions(f *testing.F) {
	for _, c := range refused {
		f.Add(c.key, c.value, "1.56")
	}
	for _, n := range badNames {
		f.Add("com.docker.network.endpoint.ifname", n, "1.41")
	}
	f.Fuzz(func(t *testing.T, key, value, api string) {
		options := map[string]string{key: value}
		if n, err := netopt.ParseNetwork(options); err == nil && n.MTU != 0 && (n.MTU < netopt.MinMTU || n.MTU > netopt.MaxMTU) {
			t.Errorf("%q=%q gives the MTU %d", key, value, n.MTU)
		}
		if e, err := netopt.ParseEndpoint(options, api); err == nil && (len(e.IfName) > 15 || strings.ContainsAny(e.IfName, "/ %:")) {
			t.Errorf("%q=%q gives the interface %q", key, value, e.IfName)
		}
		_, _ = netopt.ParseIPAM(options)
	})
}
