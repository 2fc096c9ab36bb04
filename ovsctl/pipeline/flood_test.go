package pipeline

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// crowdPort and crowdHost are the n-th endpoint here and the n-th other host of a large network.
func crowdPort(n int) uint32 { return uint32(n + 1) }

func crowdHost(n int) netip.Addr {
	if n%3 == 2 {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 5: 1, 14: byte(n >> 8), 15: byte(n)})
	}
	return netip.AddrFrom4([4]byte{198, 18 + byte(n>>16), byte(n >> 8), byte(n)})
}

// crowd is a network with so many endpoints here, and so many other hosts with one each.
func crowd(ports, hosts int) dataplane.Network {
	n := dataplane.Network{VNI: 100}
	mac := func(kind byte, i int) dataplane.MAC {
		return dataplane.MAC{2, kind, 0, byte(i >> 16), byte(i >> 8), byte(i)}
	}
	addr := func(kind byte, i int) []netip.Addr {
		return []netip.Addr{
			netip.AddrFrom4([4]byte{10, kind, byte(i >> 8), byte(i)}),
			netip.AddrFrom16([16]byte{0: 0xfd, 1: kind, 14: byte(i >> 8), 15: byte(i)}),
		}
	}
	for i := range ports {
		n.Local = append(n.Local, dataplane.Endpoint{Port: crowdPort(i), MAC: mac(1, i), Addrs: addr(1, i)})
	}
	for i := range hosts {
		n.Remote = append(n.Remote, dataplane.Peer{VTEP: crowdHost(i),
			Endpoints: []dataplane.PeerEndpoint{{MAC: mac(2, i), Addrs: addr(2, i)}}})
	}
	return n
}

// table is what a switch would hold after changes.
type table map[string]openflow.Flow

func (tb table) apply(t *testing.T, c openflow.Change) {
	t.Helper()
	for _, f := range c.Delete {
		if _, ok := tb[f.Key()]; !ok {
			t.Errorf("deletes what is not there: %s", f.Key())
		}
		delete(tb, f.Key())
	}
	for _, f := range c.Add {
		tb[f.Key()] = f
	}
}

// reached follows a flood from local ports through the flows, and counts how often each output is reached.
func (tb table) reached(t *testing.T, origin uint32) map[string]int {
	t.Helper()
	got := map[string]int{}
	b, v := builder{}, view{vni: 100}
	b.add(openflow.Flow{Table: TableFlood, Priority: floodNetwork,
		Match: match(fields(v.reg0(), openflow.U32(RegOrigin, origin)))})
	head := tb[b.flows[0].Key()]
	var dst netip.Addr
	var run func(f openflow.Flow)
	run = func(f openflow.Flow) {
		var chunk uint32
		for _, a := range f.Actions {
			switch a := a.(type) {
			case openflow.SetField:
				addr, isAddr := netip.AddrFromSlice(a.Value)
				switch {
				case a.ID == RegChunk:
					chunk = uint32(a.Value[0])<<24 | uint32(a.Value[1])<<16 | uint32(a.Value[2])<<8 | uint32(a.Value[3])
				case (a.ID == openflow.TunIPv4Dst || a.ID == openflow.TunIPv6Dst) && isAddr && !addr.IsUnspecified():
					dst = addr
				}
			case openflow.Output:
				if a.Port == dataplane.PortTunnel {
					got[dst.String()]++
				} else {
					got[fmt.Sprint(a.Port)]++
				}
			case openflow.Resubmit:
				ports := match(fields(v.reg0(), openflow.U32(RegChunk, chunk)))
				hosts := match(fields(v.reg0(), openflow.U32(RegChunk, chunk), openflow.U32(RegOrigin, origin)))
				for _, m := range []openflow.Match{ports, hosts} {
					if next, ok := tb[openflow.Flow{Table: TableFlood, Priority: floodChunk, Match: m}.Key()]; ok {
						run(next)
					}
				}
			}
		}
	}
	run(head)
	return got
}

func size(t *testing.T, c openflow.Change) int {
	t.Helper()
	n := 0
	for _, f := range c.Add {
		b, err := openflow.EncodedLength(f)
		if err != nil {
			t.Fatal(err)
		}
		n += b
	}
	return n
}

// Whatever comes and goes, the changes lead to the flows of the whole, and each output is reached once.
func TestFloodByChanges(t *testing.T) {
	for _, kind := range []dataplane.TunnelKind{"", dataplane.TunnelOVS, dataplane.TunnelKernel} {
		t.Run("tunnel "+string(kind), func(t *testing.T) {
			cfg, s := Config{Tunnel: kind}, Segment{VNI: 100, Device: 60000}
			rnd := rand.New(rand.NewPCG(1, uint64(len(kind))))
			var f Flood
			held := table{}
			ports, hosts := map[uint32]bool{}, map[netip.Addr]bool{}
			for step := range 3000 {
				// It grows, shrinks to nothing, and grows again, with the border between inline and spread on the way.
				there := rnd.IntN(10) < 7 == (step/1000%2 == 0)
				if p, h := crowdPort(rnd.IntN(150)), crowdHost(rnd.IntN(150)); rnd.IntN(2) == 0 {
					f.setPort(p, there)
					if ports[p] = there; !there {
						delete(ports, p)
					}
				} else {
					f.setHost(h, there)
					if hosts[h] = there; !there {
						delete(hosts, h)
					}
				}
				if step%97 != 0 && rnd.IntN(3) != 0 {
					continue // several at once
				}
				held.apply(t, f.Changes(cfg, s))
				var whole Flood
				for p := range ports {
					whole.AddPort(p)
				}
				for h := range hosts {
					whole.AddHost(h)
				}
				want := table{}
				want.apply(t, openflow.Change{Add: whole.Flows(cfg, s)})
				for key, flow := range want {
					if !held[key].Equal(flow) {
						t.Fatalf("step %d: holds %s\nwant %s", step, held[key], flow)
					}
				}
				if len(held) != len(want) {
					t.Fatalf("step %d: %d flows, want %d", step, len(held), len(want))
				}
				if kind == dataplane.TunnelOVS && len(ports) > 0 {
					got := held.reached(t, FromLocal)
					if len(got) != len(ports)+len(hosts) {
						t.Fatalf("step %d: reached %d of %d and %d", step, len(got), len(ports), len(hosts))
					}
					for out, n := range got {
						if n != 1 {
							t.Fatalf("step %d: %s is reached %d times", step, out, n)
						}
					}
					if got := held.reached(t, FromTunnel); len(got) != len(ports) {
						t.Fatalf("step %d: out of the tunnel %d of %d ports are reached", step, len(got), len(ports))
					}
				}
			}
		})
	}
}

// One output more costs one flow, which does not grow with the flood.
func TestFloodCostsWhatChanges(t *testing.T) {
	cfg, s := Config{Tunnel: dataplane.TunnelOVS}, Segment{VNI: 100}
	for _, n := range []int{100, 500, 5000} {
		var f Flood
		for i := range n {
			f.AddPort(crowdPort(i))
		}
		for i := range min(n, 550) {
			f.AddHost(crowdHost(i))
		}
		for _, flow := range f.Flows(cfg, s) {
			if got := size(t, openflow.Change{Add: []openflow.Flow{flow}}); got > 6<<10 {
				t.Errorf("%d outputs: a flow of %d bytes: %.200s", 2*n, got, flow)
			}
		}
		change := func(what string, do func()) {
			t.Helper()
			do()
			c := f.Changes(cfg, s)
			if mods, bytes := len(c.Add)+len(c.Delete), size(t, c); mods != 1 || bytes > 6<<10 {
				t.Errorf("%s at %d: %d flow-mods of %d bytes", what, 2*n, mods, bytes)
			} else {
				t.Logf("%s at %d: %d bytes", what, 2*n, bytes)
			}
		}
		change("a port comes", func() { f.AddPort(crowdPort(n)) })
		change("a port goes", func() { f.RemovePort(crowdPort(n / 2)) })
		change("a host comes", func() { f.AddHost(crowdHost(n)) })
		change("a host goes", func() { f.RemoveHost(crowdHost(min(n, 550) / 2)) })
		f.AddHost(crowdHost(n)) // again
		f.AddPort(crowdPort(n))
		if c := f.Changes(cfg, s); len(c.Add)+len(c.Delete) != 0 {
			t.Errorf("what was there costs %d flow-mods", len(c.Add)+len(c.Delete))
		}
	}
	// Above that all hosts are in one flow, as far as it has room.
	for _, n := range []int{601, 1500, 5000} {
		var f Flood
		f.AddPort(1)
		for i := range n {
			f.AddHost(crowdHost(i))
		}
		c := openflow.Change{Add: f.Flows(cfg, s)}
		tb := table{}
		tb.apply(t, c)
		if got, missing := len(tb.reached(t, FromLocal))-1, f.Unreached(cfg, s); got+missing != n || (missing > 0) != (n > 1600) || size(t, c) > 66<<10 {
			t.Errorf("%d hosts: %d are reached, %d not, %d bytes", n, got, missing, size(t, c))
		}
	}
	// Kernel devices know the hosts themselves.
	var f Flood
	f.AddPort(1)
	f.AddHost(crowdHost(0))
	kernel := Config{Tunnel: dataplane.TunnelKernel}
	f.Flows(kernel, Segment{VNI: 100, Device: 60000})
	for i := range 200 {
		f.AddHost(crowdHost(i))
		if c := f.Changes(kernel, Segment{VNI: 100, Device: 60000}); i > 0 && len(c.Add) != 0 {
			t.Fatalf("host %d: %d flow-mods", i, len(c.Add))
		}
	}
}
