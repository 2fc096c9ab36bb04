package ovs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

var (
	// ErrNoTunnel says that no network has containers here and on the other host, so that there is no tunnel between them.
	ErrNoTunnel = errors.New("no network has containers on both hosts")
	// ErrNoAnswer says that a probe was sent and nothing came back.
	ErrNoAnswer = errors.New("no answer through the tunnel")
)

// probeAgain is the pause before a probe is sent once more: one may be lost.
const probeAgain = 200 * time.Millisecond

// probe is the way to another host by one network.
type probe struct {
	network  string
	mtu      int
	vni      uint32
	device   uint32
	from, to dataplane.MAC
}

// Probe sends a frame through the tunnel to another host, whose switch returns it, until it is back or ctx ends. size is that of
// the frame without its Ethernet header, in bytes; 0 is that of the largest packet of a container. It returns the size that was sent, and the pipeline's ProbeMAC of
// the host that answered.
// The error is ErrNoTunnel, ErrNoAnswer or ErrNotReady.
func (p *Plane) Probe(ctx context.Context, to netip.Addr, size int) (int, dataplane.MAC, error) {
	var none dataplane.MAC
	if err := p.Ready(); err != nil {
		return 0, none, err
	}
	ways := p.waysTo(to)
	if len(ways) == 0 {
		return 0, none, fmt.Errorf("probe %s: %w", to, ErrNoTunnel)
	}
	if size == 0 {
		size = ways[0].mtu
	}
	conn, err := openflow.Dial(ctx, p.sw.MgmtPath())
	if err != nil {
		return size, none, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	defer conn.Close()
	nonce := []byte(rand.Text())
	back := make(chan dataplane.MAC, 1)
	err = conn.Listen(ctx, func(frame []byte) {
		if from, ok := pipeline.Answered(frame, nonce, size); ok {
			select {
			case back <- from:
			default: // one is enough
			}
		}
	})
	if err != nil {
		return size, none, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	cfg := pipeline.Config{Tunnel: p.Status().Tunnel}
	again := time.NewTicker(probeAgain)
	defer again.Stop()
	for {
		for _, w := range ways {
			frame, actions := pipeline.Probe(cfg, dataplane.Network{VNI: w.vni}, w.device, to, w.from, w.to, min(size, w.mtu), nonce)
			if err := conn.Send(ctx, frame, actions...); err != nil {
				return size, none, fmt.Errorf("probe %s: %w: %w", to, ErrNoAnswer, err)
			}
		}
		select {
		case from := <-back:
			return size, from, nil
		case <-ctx.Done():
			return size, none, fmt.Errorf("probe %s: %w", to, ErrNoAnswer)
		case <-conn.Done():
			return size, none, fmt.Errorf("%w: %w", ErrNotReady, conn.Err())
		case <-again.C:
		}
	}
}

// DumpFlows reads all flows of our bridge, other people's too, over a connection of its own, in the order of their tables.
func (p *Plane) DumpFlows(ctx context.Context) ([]string, error) {
	conn, err := openflow.Dial(ctx, p.sw.MgmtPath())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	defer conn.Close()
	type line struct {
		table    uint8
		priority uint16
		text     string
	}
	var lines []line // not the flows, which are larger
	if err := conn.Each(ctx, 0, 0, func(f openflow.Flow) { lines = append(lines, line{f.Table, f.Priority, f.String()}) }); err != nil {
		return nil, err
	}
	slices.SortFunc(lines, func(a, b line) int {
		return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(b.priority, a.priority))
	})
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = l.text
	}
	return out, nil
}

// ReadFlows reads, over a connection of its own, how many flows of our bridge are ours, and those that are not. Nothing removes the latter: they may
// take part in what is forwarded.
func (p *Plane) ReadFlows(ctx context.Context) (ours int, foreign []string, err error) {
	conn, err := openflow.Dial(ctx, p.sw.MgmtPath())
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	defer conn.Close()
	err = conn.Each(ctx, 0, 0, func(f openflow.Flow) {
		if f.Cookie&cookieOwnerMask == cookieOwner {
			ours++
		} else {
			foreign = append(foreign, f.String())
		}
	})
	if err != nil {
		return 0, nil, err
	}
	slices.Sort(foreign)
	return ours, foreign, nil
}

// waysTo are the networks that have containers here and on the host at that address, those with the largest packets first.
func (p *Plane) waysTo(vtep netip.Addr) []probe {
	devices := map[string]uint32{}
	for _, port := range p.sw.Ports() {
		if port.ExternalIDs[idKind] == kindVXLAN {
			devices[port.ExternalIDs[idNetwork]] = port.OFPort
		}
	}
	kernel := p.Status().Tunnel == dataplane.TunnelKernel
	var ways []probe
	p.mu.Lock()
	for _, n := range p.networks {
		if n.gone || n.attached == 0 || n.vteps[vtep] == 0 || kernel && devices[n.id] == 0 {
			continue
		}
		way := probe{network: n.id, mtu: n.mtu, vni: n.vni, device: devices[n.id]}
		for _, s := range n.local {
			if s.local.Attached {
				way.from = s.mac
			}
		}
		for _, s := range n.at(vtep) {
			way.to = s.mac
		}
		ways = append(ways, way)
	}
	p.mu.Unlock()
	slices.SortFunc(ways, func(a, b probe) int {
		return cmp.Or(cmp.Compare(b.mtu, a.mtu), cmp.Compare(a.network, b.network))
	})
	return ways
}
