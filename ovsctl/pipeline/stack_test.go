package pipeline_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// wake gives the namespace at a port the addresses of its endpoint, with all
// that a kernel does about them: duplicate detection, listener reports.
func (b *bench) wake(port uint32, addrs ...netip.Addr) {
	b.t.Helper()
	ns := b.spaces[port]
	ns.run("sh", "-c", "for d in all default eth0; do echo 0 >/proc/sys/net/ipv6/conf/$d/disable_ipv6; done")
	ns.run("ip", "link", "set", "eth0", "arp", "on")
	for _, a := range addrs {
		bits := "/24"
		if a.Is6() {
			bits = "/64"
		}
		ns.run("ip", "addr", "add", a.String()+bits, "dev", "eth0")
	}
}

// TestKernelsTalk has two kernels resolve and ping each other while a third port
// of the network listens.
func TestKernelsTalk(t *testing.T) {
	testenv.Need(t, "ping")
	t.Run("directed", func(t *testing.T) {
		b := newBench(t, kernelTunnel, twoNetworks()...)
		b.talk(t)
	})
	t.Run("answered", func(t *testing.T) {
		if *datapath == "system" {
			t.Skip("the kernel's datapath can't set the fields of neighbour discovery")
		}
		b := newBench(t, answering, twoNetworks()...)
		b.talk(t)
		b.resolves(t, r6, macR)
	})
}

func (b *bench) talk(t *testing.T) {
	b.wake(portA, a4, a6)
	b.wake(portB, b4, b6)
	for _, target := range []netip.Addr{b4, b6, pipeline.LinkLocal(macB)} {
		pings(t, b.spaces[portA], target)
		learned(t, b.spaces[portA], target, macB)
	}
	b.resolves(t, r4, macR)

	b.mark(0, portA)
	for _, frame := range b.until(b.wires[portC], portA) {
		if typ := binary.BigEndian.Uint16(frame[12:]); typ == 0x0806 || typ == 0x86dd && frame[20] == 58 && frame[54] >= 133 && frame[54] <= 137 {
			t.Errorf("a question reached a bystander: %x", frame)
		}
	}
}

// resolves checks an address on the other host: nothing there answers a ping.
func (b *bench) resolves(t *testing.T, target netip.Addr, mac dataplane.MAC) {
	_, _ = b.spaces[portA].try("ping", "-c1", "-W1", target.String())
	learned(t, b.spaces[portA], target, mac)
}

// pings polls until a ping is answered: an IPv6 address is not usable before
// duplicate detection has heard nothing for a second.
func pings(t *testing.T, from *namespace, target netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out string
	err := testenv.Poll(ctx, 50*time.Millisecond, func() bool {
		var err error
		out, err = from.try("ping", "-c1", "-W1", "-I", "eth0", target.String())
		return err == nil
	})
	if err != nil {
		t.Fatalf("no ping to %s: %v\n%s", target, err, out)
	}
}

func learned(t *testing.T, ns *namespace, target netip.Addr, mac dataplane.MAC) {
	t.Helper()
	if got := ns.run("ip", "neigh", "show", target.String(), "dev", "eth0"); !strings.Contains(got, mac.String()) {
		t.Errorf("neighbour %s: %q, want %s", target, got, mac)
	}
}

// TestMegaflowsStayWide keeps the switch's cache entries independent of what
// changes from packet to packet: else each connection would cost an upcall.
func TestMegaflowsStayWide(t *testing.T) {
	b := newBench(t, kernelTunnel, twoNetworks()...)
	for name, packet := range map[string]string{
		"ipv4": "tcp,nw_src=10.1.0.2,nw_dst=10.1.0.3,nw_ttl=64",
		"ipv6": "tcp6,ipv6_src=fd00:1::2,ipv6_dst=fd00:1::3,nw_ttl=64",
	} {
		out := b.sw.Appctl("ofproto/trace", "br0",
			"in_port=1,dl_src="+macA.String()+",dl_dst="+macB.String()+","+packet+",tp_src=1000,tp_dst=80")
		_, megaflow, ok := strings.Cut(out, "Megaflow: ")
		if !ok {
			t.Fatalf("no megaflow in\n%s", out)
		}
		megaflow, _, _ = strings.Cut(megaflow, "\n")
		t.Log(megaflow)
		for _, field := range []string{"tp_src", "tp_dst", "nw_dst", "ipv6_dst", "ttl"} {
			if strings.Contains(megaflow, field+"=") {
				t.Errorf("%s: %s is part of %s", name, field, megaflow)
			}
		}
	}
}
