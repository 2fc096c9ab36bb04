package doctor

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// way is a Way to one other host on which all is well; cases change it.
func way() (*Way, *Peer) {
	p := &Peer{ID: "id2", Name: "h2", VTEP: netip.MustParseAddr("192.0.2.2"), Alive: true, VXLANPort: 4789, Used: true}
	w := &Way{
		Links: func() ([]Link, error) {
			return []Link{{Name: "eth0", MTU: 1500, Up: true, Carrier: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}, nil
		},
		Underlay:  func() Underlay { return Underlay{Addr: netip.MustParseAddr("192.0.2.1"), Dev: "eth0", MTU: 1500} },
		VXLANPort: 4789,
		Tunnel: func(_ context.Context, _ netip.Addr, size int) (Answer, error) {
			if size == 0 {
				size = 1450
			}
			return Answer{Size: size, Host: "mac of id2"}, nil
		},
		Echo:    func(context.Context, netip.Addr, int) error { return nil },
		Refused: func(context.Context, netip.AddrPort) error { return nil },
		Route: func(context.Context, netip.Addr, netip.Addr) (string, netip.Addr, error) {
			return "eth0", netip.Addr{}, nil
		},
		Neighbours: func(context.Context, string, netip.Addr) ([]string, error) { return []string{"02:00:00:00:00:02"}, nil },
		Files:      Files{Root: "/nonexistent"},
		HostOf:     func(id string) string { return "mac of " + id },
	}
	w.Hosts = func(context.Context) ([]Peer, error) { return []Peer{*p}, nil }
	return w, p
}

func silentTunnel(w *Way) {
	w.Tunnel = func(_ context.Context, _ netip.Addr, size int) (Answer, error) {
		return Answer{Size: max(size, 1)}, ErrNoAnswer
	}
}

func noTunnel(w *Way) {
	w.Tunnel = func(context.Context, netip.Addr, int) (Answer, error) { return Answer{}, ErrNoTunnel }
}

func noEcho(w *Way) {
	w.Echo = func(context.Context, netip.Addr, int) error { return ErrNoAnswer }
}

func silent(w *Way) {
	silentTunnel(w)
	noEcho(w)
}

func link(w *Way, up, carrier bool) {
	all, _ := w.Links()
	all[0].Up, all[0].Carrier = up, carrier
	w.Links = func() ([]Link, error) { return all, nil }
}

func bridge(w *Way, s BridgeState) {
	w.Bridge = func(context.Context) (BridgeState, error) { return s, nil }
}

func refusing(err error) func(context.Context, netip.AddrPort) error {
	return func(context.Context, netip.AddrPort) error { return err }
}

func TestWay(t *testing.T) {
	const wall = "firewall"
	for name, tt := range map[string]struct {
		change func(*Way, *Peer)
		state  string
		words  []string
		never  string
	}{
		"well":              {func(*Way, *Peer) {}, "ok", []string{"came back through the tunnel", "1500 bytes"}, wall},
		"no common network": {func(w *Way, _ *Peer) { noTunnel(w) }, "ok", []string{"the tunnel is not probed", "1500 bytes"}, wall},
		"the switch does not tell its host": {func(w *Way, _ *Peer) {
			w.Tunnel = func(context.Context, netip.Addr, int) (Answer, error) { return Answer{}, nil }
		}, "ok", []string{"came back"}, wall},
		"ICMP is dropped": {func(w *Way, _ *Peer) { noEcho(w) }, "ok", []string{"drops ICMP", "1450 bytes"}, wall},
		"ICMP is dropped, no common network": {func(w *Way, _ *Peer) { noEcho(w); noTunnel(w) }, "warning",
			[]string{"answers no ICMP echo", "not probed"}, wall},
		"own link down":        {func(w *Way, _ *Peer) { silent(w); link(w, false, false) }, "error", []string{"link eth0 is down", "ip link set eth0 up"}, wall},
		"own link, no carrier": {func(w *Way, _ *Peer) { silent(w); link(w, true, false) }, "error", []string{"link eth0", "no carrier"}, wall},
		"no route":             {func(w *Way, _ *Peer) { silent(w); w.Route = unreachable }, "error", []string{"no route", "192.0.2.2"}, wall},
		"a blackhole route":    {func(w *Way, _ *Peer) { silent(w); routeError(w, syscall.EINVAL) }, "error", []string{"no route", "of type blackhole", "ip route show to match 192.0.2.2"}, wall},
		"a prohibit route": {func(w *Way, _ *Peer) {
			silent(w)
			w.Refused = refusing(syscall.EACCES)
			routeError(w, syscall.EACCES)
		}, "error", []string{"no route", "of type prohibit"}, wall},
		"own firewall":          {func(w *Way, _ *Peer) { silent(w); w.Refused = refusing(syscall.EPERM) }, "error", []string{"this host's own firewall", "4789"}, ""},
		"own firewall, UDP":     {func(w *Way, _ *Peer) { silentTunnel(w); w.Refused = refusing(syscall.EPERM) }, "error", []string{"this host's own firewall", "4789"}, ""},
		"nobody there":          {func(w *Way, _ *Peer) { silent(w); nobody(w) }, "error", []string{"nobody on the segment of eth0", "ARP"}, wall},
		"nobody there, down":    {func(w *Way, p *Peer) { silent(w); nobody(w); p.Alive = false }, "warning", []string{"nobody on the segment", "socketplane host rm id2"}, wall},
		"beyond a router, down": {func(w *Way, p *Peer) { silent(w); routed(w); p.Alive = false }, "warning", []string{"its agent is down", "socketplane host rm id2"}, wall},
		"beyond a router": {func(w *Way, _ *Peer) { silent(w); routed(w) }, "error",
			[]string{"no answer", "either its link is down, or a router or a firewall"}, ""},
		"a gateway that is not there": {func(w *Way, _ *Peer) { silent(w); routed(w); nobody(w) }, "error",
			[]string{"leads by the gateway 192.0.2.254 on eth0", "nobody on that segment", "ip route get 192.0.2.2"}, wall},
		"all dropped":  {func(w *Way, _ *Peer) { silent(w) }, "error", []string{"no answer", "answers ARP", "firewalls"}, ""},
		"port dropped": {func(w *Way, _ *Peer) { silentTunnel(w) }, "error", []string{"UDP port 4789", "no answer", "answers ICMP", "firewalls"}, ""},
		"own bridge has lost flows": {func(w *Way, _ *Peer) { silentTunnel(w); bridge(w, BridgeState{Missing: 3}) }, "unknown",
			[]string{"3 of SocketPlane's flows are missing", "see the bridge"}, wall},
		"own bridge has a controller": {func(w *Way, _ *Peer) { silentTunnel(w); bridge(w, BridgeState{Controllers: 1}) }, "unknown",
			[]string{"an OpenFlow controller is set", "see the bridge"}, wall},
		"own bridge is well": {func(w *Way, _ *Peer) { silentTunnel(w); bridge(w, BridgeState{}) }, "error", []string{"UDP port 4789", "no answer"}, ""},
		"a wrong neighbour entry": {func(w *Way, _ *Peer) { silent(w); w.Files = entry(t, "0x6") }, "error",
			[]string{"sends what is for 192.0.2.2 to the MAC 02:00:00:00:00:99", "the station that has the address is 02:00:00:00:00:02", "ip neigh del 192.0.2.2 dev eth0"}, wall},
		"a neighbour entry that failed":              {func(w *Way, _ *Peer) { silentTunnel(w); w.Files = entry(t, "0x0") }, "error", []string{"UDP port 4789"}, "MAC"},
		"a wrong neighbour entry that harms nothing": {func(w *Way, _ *Peer) { w.Files = entry(t, "0x6") }, "ok", nil, "MAC"},
		"two stations have the address": {func(w *Way, _ *Peer) {
			silentTunnel(w)
			w.Refused = refusing(syscall.ECONNREFUSED)
			w.Neighbours = func(context.Context, string, netip.Addr) ([]string, error) {
				return []string{"02:00:00:00:00:02", "02:00:00:00:00:98"}, nil
			}
		}, "error", []string{"2 stations on the segment of eth0 answer for the address 192.0.2.2", "02:00:00:00:00:98", "arp_ignore"}, wall},
		"refused":         {func(w *Way, _ *Peer) { silentTunnel(w); w.Refused = refusing(syscall.ECONNREFUSED) }, "error", []string{"is refused", "no tunnel ends there"}, ""},
		"refused, unused": {func(w *Way, p *Peer) { noTunnel(w); w.Refused = refusing(syscall.ECONNREFUSED); p.Used = false }, "ok", []string{"not probed"}, wall},
		"other port":      {func(w *Way, p *Peer) { silentTunnel(w); p.VXLANPort = 4790 }, "error", []string{"4790", "4789", "--vxlan-port"}, wall},
		"another host answers": {func(w *Way, _ *Peer) {
			w.Tunnel = func(context.Context, netip.Addr, int) (Answer, error) { return Answer{Host: "mac of id7"}, nil }
		}, "error", []string{"another host answers at 192.0.2.2", "--advertise"}, wall},
		"own address":    {func(_ *Way, p *Peer) { p.VTEP = netip.MustParseAddr("192.0.2.1") }, "error", []string{"this host's own tunnel address", "--advertise"}, wall},
		"other family":   {func(_ *Way, p *Peer) { p.VTEP = netip.MustParseAddr("2001:db8::2") }, "error", []string{"192.0.2.1 is IPv4", "2001:db8::2, is IPv6", "--advertise", "IPv6 address here", "IPv4 address on h2"}, wall},
		"no address":     {func(_ *Way, p *Peer) { p.VTEP = netip.Addr{} }, "error", []string{"published no tunnel address"}, wall},
		"no own address": {func(w *Way, _ *Peer) { w.Underlay = func() Underlay { return Underlay{} } }, "unknown", []string{"could not look"}, wall},
		"smaller MTU":    {func(w *Way, _ *Peer) { w.Echo = smallOnly }, "error", []string{"1500 bytes", "make the MTU between the hosts equal"}, wall},
		"larger MTU here than containers need": {func(w *Way, p *Peer) {
			w.Underlay = func() Underlay { return Underlay{Addr: netip.MustParseAddr("192.0.2.1"), Dev: "eth0", MTU: 9000} }
			p.Needs, w.Echo = 1500, upTo(1500)
		}, "ok", []string{"1500 bytes"}, wall},
		"containers need more than the other host takes": {func(w *Way, p *Peer) {
			w.Underlay = func() Underlay { return Underlay{Addr: netip.MustParseAddr("192.0.2.1"), Dev: "eth0", MTU: 9000} }
			p.Needs, w.Echo = 4000, upTo(1500)
		}, "error", []string{"4000 bytes", "make the MTU between the hosts equal", "docker restart"}, wall},
		"containers need more than this host's link takes": {func(w *Way, p *Peer) { p.Needs, w.Echo = 9000, upTo(1500) }, "ok", []string{"1500 bytes"}, wall},
		"smaller MTU, unseen":                              {func(w *Way, _ *Peer) { noEcho(w); largeLost(w) }, "error", []string{"small packets reach", "containers' packets of 1450 bytes do not"}, wall},
		"the switch is gone": {func(w *Way, _ *Peer) {
			w.Tunnel = func(context.Context, netip.Addr, int) (Answer, error) {
				return Answer{}, errors.New("the data plane is not ready")
			}
		}, "unknown", []string{"the tunnel can't be probed: the data plane is not ready"}, wall},
		"two others share it": {func(w *Way, p *Peer) {
			w.Hosts = func(context.Context) ([]Peer, error) {
				return []Peer{*p, {ID: "id3", Name: "h3", VTEP: p.VTEP, Alive: true}}, nil
			}
		}, "error", []string{"the hosts h2 and h3 have the same tunnel address"}, wall},
		"a former record shares it": {func(w *Way, p *Peer) {
			w.Hosts = func(context.Context) ([]Peer, error) { return []Peer{*p, {ID: "id3", Name: "h2", VTEP: p.VTEP}}, nil }
		}, "ok", []string{"came back through the tunnel"}, "--advertise"},
		"a former record": {func(w *Way, p *Peer) {
			w.Hosts = func(context.Context) ([]Peer, error) {
				return []Peer{{ID: "id3", Name: "h2", VTEP: p.VTEP}, {ID: "id2", Name: "h7", VTEP: p.VTEP, Alive: true}}, nil
			}
		}, "warning", []string{"host h7 has", "former record", "socketplane host rm id3"}, wall},
		"this host's former record": {func(_ *Way, p *Peer) { p.VTEP, p.Alive = netip.MustParseAddr("192.0.2.1"), false }, "warning",
			[]string{"this host has", "former record", "socketplane host rm id2"}, wall},
		"two that are gone share it": {func(w *Way, p *Peer) {
			silent(w)
			nobody(w)
			p.Alive = false
			w.Hosts = func(context.Context) ([]Peer, error) { return []Peer{*p, {ID: "id3", Name: "h3", VTEP: p.VTEP}}, nil }
		}, "warning", []string{"nobody on the segment", "socketplane host rm"}, "--advertise"},
		"other family, down": {func(_ *Way, p *Peer) { p.VTEP, p.Alive = netip.MustParseAddr("2001:db8::2"), false }, "warning",
			[]string{"is IPv4", "is IPv6", "its agent is down", "socketplane host rm id2"}, wall},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			w, p := way()
			tt.change(w, p)
			got := Run(t.Context(), []Check{w.Check()})[0]
			said := got.Text + " | " + got.Cure
			if got.Name != "way to h2" || got.State != tt.state || (got.State == adminapi.CheckOK) != (got.Cure == "") {
				t.Errorf("%+v", got)
			}
			for _, word := range tt.words {
				if !strings.Contains(said, word) {
					t.Errorf("it does not say %q: %s", word, said)
				}
			}
			if tt.never != "" && strings.Contains(said, tt.never) {
				t.Errorf("it says %q: %s", tt.never, said)
			}
		})
	}
}

func unreachable(context.Context, netip.Addr, netip.Addr) (string, netip.Addr, error) {
	return "", netip.Addr{}, syscall.ENETUNREACH
}

func routeError(w *Way, err error) {
	w.Route = func(context.Context, netip.Addr, netip.Addr) (string, netip.Addr, error) {
		return "", netip.Addr{}, err
	}
}

func nobody(w *Way) {
	w.Neighbours = func(context.Context, string, netip.Addr) ([]string, error) { return nil, ErrNoAnswer }
}

func routed(w *Way) {
	w.Route = func(context.Context, netip.Addr, netip.Addr) (string, netip.Addr, error) {
		return "eth0", netip.MustParseAddr("192.0.2.254"), nil
	}
}

func smallOnly(ctx context.Context, to netip.Addr, size int) error {
	return upTo(smallProbe)(ctx, to, size)
}

func upTo(most int) func(context.Context, netip.Addr, int) error {
	return func(_ context.Context, _ netip.Addr, size int) error {
		if size > most {
			return ErrNoAnswer
		}
		return nil
	}
}

func largeLost(w *Way) {
	w.Tunnel = func(_ context.Context, _ netip.Addr, size int) (Answer, error) {
		if size == 0 {
			return Answer{Size: 1450}, ErrNoAnswer
		}
		return Answer{Size: size}, nil
	}
}

func TestNoWays(t *testing.T) {
	w, _ := way()
	w.Hosts = func(context.Context) ([]Peer, error) { return nil, nil }
	if got := Run(t.Context(), []Check{w.Check()}); len(got) != 1 || !got[0].NotApplicable {
		t.Errorf("alone: %+v", got)
	}
	w.Hosts = func(context.Context) ([]Peer, error) { return nil, errors.New("consul is away") }
	if got := Run(t.Context(), []Check{w.Check()}); len(got) != 1 || got[0].State != adminapi.CheckUnknown || !strings.Contains(got[0].Text, "consul is away") {
		t.Errorf("without the store: %+v", got)
	}
}

// entry is a host whose kernel sends what is for 192.0.2.2 to a MAC that no station has, if the entry is complete.
func entry(t *testing.T, flags string) Files {
	return host(t, map[string]string{"/proc/net/arp": "IP address       HW type     Flags       HW address            Mask     Device\n" +
		"192.0.2.2        0x1         0x2         02:00:00:00:00:02     *        eth1\n192.0.2.2        0x1         " + flags + "         02:00:00:00:00:99     *        eth0"})
}
