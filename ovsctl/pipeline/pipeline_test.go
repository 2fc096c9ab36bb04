package pipeline_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scenario is a network and how its host is set up.
type scenario struct {
	name   string
	cfg    pipeline.Config
	device uint32
	net    dataplane.Network
}

func scenarios() []scenario {
	addrs := func(a ...netip.Addr) []netip.Addr { return a }
	local := []dataplane.Endpoint{endpoint(portA, macA, a4), endpoint(portB, macB, b4)}
	peers := []dataplane.Peer{
		{VTEP: ip("192.0.2.2"), Endpoints: []dataplane.PeerEndpoint{{MAC: macR, Addrs: addrs(r4)}}},
		{VTEP: ip("2001:db8::3"), Endpoints: []dataplane.PeerEndpoint{{MAC: macC, Addrs: addrs(c4)}}},
	}
	dual := twoNetworks()[0]
	moving := dataplane.Network{VNI: 100, Local: local, Remote: []dataplane.Peer{
		// The old host's record of a, and one that was already there twice.
		{VTEP: ip("192.0.2.2"), Endpoints: []dataplane.PeerEndpoint{{MAC: macA, Addrs: addrs(a4)}, {MAC: macR, Addrs: addrs(r4)}}},
		{VTEP: ip("192.0.2.3"), Endpoints: []dataplane.PeerEndpoint{{MAC: macR, Addrs: addrs(r4)}}},
	}}
	ovsTunnel := pipeline.Config{Tunnel: dataplane.TunnelOVS}
	return []scenario{
		{"alone", pipeline.Config{}, 0, dataplane.Network{VNI: 100, Local: local, Remote: peers}},
		{"ipv4-ovs", ovsTunnel, 0, dataplane.Network{VNI: 100, Local: local, Remote: peers}},
		{"ipv4-kernel", kernelTunnel, portTun, dataplane.Network{VNI: 100, Local: local, Remote: peers}},
		{"kernel-without-device", kernelTunnel, 0, dataplane.Network{VNI: 100, Local: local, Remote: peers}},
		{"dual-stack-ovs", ovsTunnel, 0, dual},
		{"dual-stack-kernel", answering, portTun, dual},
		{"moving", ovsTunnel, 0, moving},
		{"no-local-endpoint", ovsTunnel, 0, dataplane.Network{VNI: 100, Remote: peers}},
		{"empty", kernelTunnel, portTun, dataplane.Network{VNI: 1<<24 - 1}},
	}
}

func (s scenario) flows() []openflow.Flow {
	return pipeline.Network(s.cfg, s.net, s.device)
}

func TestGolden(t *testing.T) {
	texts := map[string]string{
		"base":           pipeline.Text(pipeline.Base(kernelTunnel)),
		"base-answering": pipeline.Text(pipeline.Base(answering)),
	}
	for _, s := range scenarios() {
		texts[s.name] = pipeline.Text(s.flows())
	}
	for name, got := range texts {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".flows")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s; if that is meant, run with -update and read the diff\n%s", file, got)
			}
		})
	}
}

func TestFlowsKeepTheRules(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			flows := s.flows()
			seen := map[string]bool{}
			for _, f := range append(pipeline.Base(s.cfg), flows...) {
				if seen[f.Key()] {
					t.Errorf("twice: %s", f)
				}
				seen[f.Key()] = true
				if f.Goto != 0 && f.Goto <= f.Table {
					t.Errorf("goes back: %s", f)
				}
				if f.Cookie != 0 {
					t.Errorf("cookie: %s", f)
				}
			}
			for _, f := range flows {
				if f.Table > pipeline.TableClassify && !matches(f, openflow.U32(pipeline.RegNetwork, s.net.VNI)) {
					t.Errorf("does not match the network: %s", f)
				}
				if leaves(f, s.device) && !matches(f, openflow.U32(pipeline.RegOrigin, pipeline.FromLocal)) {
					t.Errorf("goes from tunnel to tunnel: %s", f)
				}
			}
			if pipeline.Text(flows) != pipeline.Text(s.flows()) {
				t.Error("two calls differ")
			}
		})
	}
}

func matches(f openflow.Flow, want openflow.Field) bool {
	return slices.ContainsFunc(f.Match, func(m openflow.Field) bool { return m.String() == want.String() })
}

// leaves says whether a flow outputs to a tunnel.
func leaves(f openflow.Flow, device uint32) bool {
	return slices.ContainsFunc(f.Actions, func(a openflow.Action) bool {
		o, ok := a.(openflow.Output)
		return ok && (o.Port == dataplane.PortTunnel || device != 0 && o.Port == device)
	})
}

func TestLinkLocal(t *testing.T) {
	got := pipeline.LinkLocal(dataplane.MAC{0x02, 0x42, 0xac, 0x11, 0x00, 0x02})
	if want := ip("fe80::42:acff:fe11:2"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func BenchmarkNetwork(b *testing.B) {
	n := dataplane.Network{VNI: 100, Local: []dataplane.Endpoint{endpoint(portA, macA, a4, a6)}}
	for h := range 100 {
		p := dataplane.Peer{VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(h)})}
		for e := range 10 {
			p.Endpoints = append(p.Endpoints, dataplane.PeerEndpoint{MAC: dataplane.MAC{2, 1, 0, 0, byte(h), byte(e)},
				Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 2, byte(h), byte(e)}), netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(h), 15: byte(e + 10)})}})
		}
		n.Remote = append(n.Remote, p)
	}
	flows := 0
	for b.Loop() {
		flows = len(pipeline.Network(pipeline.Config{Tunnel: dataplane.TunnelOVS}, n, 0))
	}
	b.ReportMetric(float64(flows), "flows")
}
