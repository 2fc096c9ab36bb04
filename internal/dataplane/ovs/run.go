package ovs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

const (
	// passTimeout bounds one pass. A first replay of a large host may take many seconds, minutes on a busy machine, and
	// one that were cut off would begin again; that a switch hangs is noticed by the connections themselves, in 15 s.
	passTimeout = 5 * time.Minute
	dialTimeout = 2 * time.Second
	// The pause after a pass that failed doubles from the first to the second.
	retryMin, retryMax = 250 * time.Millisecond, 4 * time.Second
	// redialMin is the pause after a connection that had lasted for steadyAfter; after one that had not it doubles up to retryMax: a switch
	// that accepts and drops is not dialled without a pause.
	redialMin, steadyAfter = 20 * time.Millisecond, 5 * time.Second
)

// Run keeps everything true until ctx ends. Every network that must stay has to be given
// before: what belongs to none is removed. It looks when the switch, the database or a link
// changes, when something could not be applied, and now and then anyway.
func (p *Plane) Run(ctx context.Context) error {
	links, err := p.links.Watch(ctx)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(p.opts.Resync)
	defer ticker.Stop()
	defer p.disconnect()
	pause := retry.Pause{First: retryMin, Last: retryMax}
	redial := retry.Pause{First: redialMin, Last: retryMax, Steady: steadyAfter}
	for full := true; ; {
		var again <-chan time.Time
		err := p.pass(ctx, full)
		if full = err != nil; full {
			again = time.After(pause.Next(0))
		} else {
			pause.Reset()
			if p.strays.next.After(time.Now()) { // what comes back meanwhile is removed then
				again = time.After(time.Until(p.strays.next))
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again:
		case <-p.poke:
			full = true
		case <-p.sw.Changed():
		case <-p.broken():
			redial.Wait(ctx, time.Since(p.dialled))
		case _, open := <-links:
			if !open {
				links = nil // ctx has ended
			}
		case <-ticker.C:
			full = true
		}
	}
}

// broken tells that the connection has ended. Only Run's goroutine calls it.
func (p *Plane) broken() <-chan struct{} {
	if p.conn == nil {
		return nil
	}
	return p.conn.Done()
}

// disconnect ends the work. Its turn comes: everybody else's wait is bounded.
func (p *Plane) disconnect() {
	p.applying <- struct{}{}
	defer func() { <-p.applying }()
	p.setStopped()
	if p.conn != nil {
		_ = p.conn.Close() // nothing is owed to a connection that is not used any more
		p.conn, p.cookie = nil, 0
	}
}

// pass makes everything true once; a full one trusts nothing that it knows from before.
func (p *Plane) pass(ctx context.Context, full bool) error {
	bounded, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	release, err := p.acquire(bounded)
	if err != nil {
		return err
	}
	defer release()
	trouble, err := p.everything(bounded, full)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	p.setStatus(func(s *Status) {
		if s.Passes++; trouble != nil || err != nil {
			s.Failed++
		}
	})
	if err != nil && !errors.Is(err, ErrNotReady) {
		err = fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	p.setReady(err)
	if err == nil {
		err = p.setTrouble(trouble)
	}
	return err
}

// everything looks at all networks. What is wrong with single ones is the first
// error, what keeps all from being forwarded the second.
func (p *Plane) everything(ctx context.Context, full bool) (trouble, err error) {
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	if err := p.listOwned(ctx); err != nil {
		return nil, err
	}
	networks, failed := p.all(), map[*network]error{}
	fail := func(n *network, err error) { failed[n] = errors.Join(failed[n], err) }
	each := func(do func(context.Context, *network) error) {
		for _, n := range networks {
			if err := do(ctx, n); err != nil {
				fail(n, err)
			}
		}
	}
	for _, n := range networks {
		n.inspect(p.owned, full)
	}
	each(p.ensureDevice)
	if err := p.syncAllFlows(ctx, full, fail); err != nil {
		return nil, err
	}
	each(p.syncFDB)
	each(p.mendLinks)
	trouble, err = p.syncAllPorts(ctx)
	if err != nil {
		return nil, err
	}
	each(p.drop)
	errs := []error{trouble, p.collectLinks(ctx), p.clearLinks(ctx, full)}
	for _, n := range networks {
		if failed[n] == nil {
			p.finished(n)
		}
		errs = append(errs, cmp.Or(failed[n], n.trouble()))
	}
	return errors.Join(errs...), nil
}

// prepare has bridge and connection.
func (p *Plane) prepare(ctx context.Context) error {
	if err := p.sw.Ready(); err != nil {
		return err
	}
	if err := p.decide(); err != nil {
		return err
	}
	if err := p.sw.EnsureBridge(ctx, ovsctl.BridgeSpec{Datapath: p.datapath}); err != nil {
		return err
	}
	return p.connect(ctx)
}

// decide chooses datapath and tunnel kind, once the database can be asked.
func (p *Plane) decide() error {
	info := p.sw.Info()
	p.datapath = ovsctl.DatapathNetdev
	if p.links.HasKernelDatapath() && slices.Contains(info.DatapathTypes, ovsctl.DatapathSystem) {
		p.datapath = ovsctl.DatapathSystem
	}
	p.tso = p.datapath == ovsctl.DatapathSystem || info.TSO
	p.tunnel = p.opts.Tunnel
	onBridge := p.sw.HasBridge(p.underlay.Dev, p.datapath)
	if p.tunnel == "" {
		p.tunnel = dataplane.TunnelKernel
		if p.datapath == ovsctl.DatapathSystem || onBridge {
			p.tunnel = dataplane.TunnelOVS
		}
	}
	p.setStatus(func(s *Status) { s.Datapath, s.Tunnel, s.TSO = p.datapath, p.tunnel, p.tso })
	if p.tunnel == dataplane.TunnelOVS && p.datapath == ovsctl.DatapathNetdev && !onBridge {
		return fmt.Errorf("--tunnel ovs in user space needs the address %s on an OVS bridge, it is on %s: "+
			"use --tunnel kernel, or move the interface into a bridge", p.underlay.Addr, p.underlay.Dev)
	}
	return nil
}

// connect has a connection to the switch; a new one begins a new generation.
func (p *Plane) connect(ctx context.Context) error {
	if p.conn != nil && p.conn.Err() == nil {
		return nil
	}
	p.cookie = 0 // the switch may be another one: syncAllFlows replays
	if p.conn != nil {
		_ = p.conn.Close() // broken already
		p.conn = nil
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := openflow.Dial(dialCtx, p.sw.MgmtPath())
	if err != nil {
		return err
	}
	p.conn, p.dialled = conn, time.Now()
	return nil
}

// syncAllFlows makes the switch's flows equal to the wanted ones. What is wrong with single networks goes to failed.
func (p *Plane) syncAllFlows(ctx context.Context, full bool, failed func(*network, error)) error {
	if p.cookie == 0 || p.baseFor != p.pipeline() {
		return p.replay(ctx)
	}
	for _, n := range p.all() {
		p.offer(n)
		if err := p.syncFlows(ctx, n); isRefusal(err) {
			failed(n, err)
		} else if err != nil {
			return err
		}
	}
	if !full {
		return nil
	}
	return p.mendFlows(ctx)
}
