package ovs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/vswitch"
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

// scope is what a pass looks at.
type scope struct {
	full    bool // trust nothing of devices, links and ports that is known from before
	compare bool // compare all flows with those of the switch, and the entries of large networks with the kernel's
}

// Run keeps everything true until ctx ends. Every network that must stay has to be given
// before: what belongs to none is removed. It looks when the switch, the database or a link
// changes by another hand, when something could not be applied, and now and then anyway.
func (p *Plane) Run(ctx context.Context) error {
	w, err := p.watch(ctx)
	if err != nil {
		return err
	}
	defer w.ticker.Stop()
	defer p.disconnect()
	pause := retry.Pause{First: retryMin, Last: retryMax}
	for sc := (scope{full: true}); ; {
		var again <-chan time.Time
		trouble, err := p.pass(ctx, sc)
		switch {
		case err != nil || trouble != nil:
			again = time.After(pause.Next(0))
		case p.strays.next.After(time.Now()): // what comes back meanwhile is removed then
			again = time.After(time.Until(p.strays.next))
		}
		if err == nil && trouble == nil {
			pause.Reset()
		}
		next := scope{full: err != nil}
		if sc, err = p.await(ctx, w, again, next); err != nil {
			return err
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
	p.applying <- struct{}{} // as Take does, for as long as it takes
	defer p.applying.Release()
	p.setStopped()
	if p.conn != nil {
		_ = p.conn.Close() // nothing is owed to a connection that is not used any more
		p.conn, p.cookie = nil, 0
	}
}

// pass makes everything true once. What is wrong with single networks is the first error, what keeps all from being forwarded the second.
func (p *Plane) pass(ctx context.Context, sc scope) (trouble, err error) {
	bounded, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	release, err := p.acquire(bounded)
	if err != nil {
		return nil, err
	}
	defer release()
	trouble, err = p.everything(bounded, sc)
	if ctx.Err() != nil {
		return nil, ctx.Err()
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
		trouble = p.setTrouble(trouble)
	}
	return trouble, err
}

// everything looks at all networks. What is wrong with single ones is the first
// error, what keeps all from being forwarded the second.
func (p *Plane) everything(ctx context.Context, sc scope) (trouble, err error) {
	mended, err := p.prepare(ctx)
	if err != nil {
		return nil, err
	}
	sc.compare = sc.compare || mended || sc.full && !p.monitored
	if err := p.listOwned(ctx); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.behind = false
	p.mu.Unlock()
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
		n.inspect(p.owned, sc.full, sc.compare || p.few(n))
	}
	each(p.ensureDevice)
	if err := p.syncAllFlows(ctx, sc.compare, fail); err != nil {
		return nil, err
	}
	each(p.syncFDB)
	each(p.mendLinks)
	trouble, err = p.syncAllPorts(ctx)
	if err != nil {
		return nil, err
	}
	each(p.drop)
	errs := []error{trouble, p.collectLinks(ctx), p.clearLinks(ctx, sc.full)}
	for _, n := range networks {
		if failed[n] == nil {
			p.finished(n)
		}
		errs = append(errs, cmp.Or(failed[n], n.trouble()))
	}
	return errors.Join(errs...), nil
}

// prepare has bridge and connection. It says whether the bridge was not as it has to be: a switch whose bridge gets or loses a controller, or
// another fail mode, forgets its flows (ofproto/connmgr.c, connmgr_set_controllers).
func (p *Plane) prepare(ctx context.Context) (mended bool, err error) {
	if err := p.sw.Ready(); err != nil {
		return false, err
	}
	if err := p.decide(); err != nil {
		return false, err
	}
	before, err := p.sw.BridgeRow()
	if err != nil {
		return false, err
	}
	if err := p.sw.EnsureBridge(ctx, ovsctl.BridgeSpec{Datapath: p.datapath}); err != nil {
		return false, err
	}
	after, err := p.sw.BridgeRow()
	if err != nil {
		return false, err
	}
	return !sameBridge(before, after), p.connect(ctx)
}

// sameBridge compares what EnsureBridge mends and what flows depend on.
func sameBridge(a, b *vswitch.Bridge) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.UUID == b.UUID && a.DatapathType == b.DatapathType && slices.Equal(a.Controller, b.Controller) &&
		reflect.DeepEqual(a.FailMode, b.FailMode) && slices.Equal(a.Protocols, b.Protocols)
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
	p.conn, p.dialled, p.monitored = conn, time.Now(), false
	return nil
}

// syncAllFlows makes the switch's flows equal to the wanted ones. What is wrong with single networks goes to failed.
func (p *Plane) syncAllFlows(ctx context.Context, compare bool, failed func(*network, error)) error {
	if p.cookie == 0 || p.baseFor != p.pipeline() {
		p.compared = time.Time{} // unless replay compares them
		if err := p.replay(ctx); err != nil {
			return err
		}
		if err := p.follow(ctx); err != nil {
			return err
		}
		return p.confirm(ctx)
	}
	for _, n := range p.all() {
		p.offer(n)
		if err := p.syncFlows(ctx, n); isRefusal(err) {
			failed(n, err)
		} else if err != nil {
			return err
		}
	}
	if !compare {
		return nil
	}
	return p.mendFlows(ctx)
}
