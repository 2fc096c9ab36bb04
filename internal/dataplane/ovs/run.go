package ovs

import (
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
func (r *Reconciler) Run(ctx context.Context) error {
	links, err := r.links.Watch(ctx)
	if err != nil {
		return err
	}
	ticker := time.NewTicker(r.opts.Resync)
	defer ticker.Stop()
	defer r.disconnect()
	pause := retry.Pause{First: retryMin, Last: retryMax}
	redial := retry.Pause{First: redialMin, Last: retryMax, Steady: steadyAfter}
	for full := true; ; {
		var again <-chan time.Time
		err := r.pass(ctx, full)
		if full = err != nil; full {
			again = time.After(pause.Next(0))
		} else {
			pause.Reset()
			if r.strays.next.After(time.Now()) { // what comes back meanwhile is removed then
				again = time.After(time.Until(r.strays.next))
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again:
		case <-r.poke:
			full = true
		case <-r.sw.Changed():
		case <-r.broken():
			redial.Wait(ctx, time.Since(r.dialled))
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
func (r *Reconciler) broken() <-chan struct{} {
	if r.conn == nil {
		return nil
	}
	return r.conn.Done()
}

// disconnect ends the work. Its turn comes: everybody else's wait is bounded.
func (r *Reconciler) disconnect() {
	r.applying <- struct{}{}
	defer func() { <-r.applying }()
	r.setStopped()
	if r.conn != nil {
		_ = r.conn.Close() // nothing is owed to a connection that is not used any more
		r.conn, r.cookie = nil, 0
	}
}

// pass makes everything true once; a full one trusts nothing that it knows from before.
func (r *Reconciler) pass(ctx context.Context, full bool) error {
	bounded, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	release, err := r.acquire(bounded)
	if err != nil {
		return err
	}
	defer release()
	trouble, err := r.everything(bounded, full)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.setStatus(func(s *Status) {
		if s.Passes++; trouble != nil || err != nil {
			s.Failed++
		}
	})
	if err != nil && !errors.Is(err, ErrNotReady) {
		err = fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	r.setReady(err)
	if err == nil {
		err = r.setTrouble(trouble)
	}
	return err
}

// everything looks at all networks. What is wrong with single ones is the first
// error, what keeps all from being forwarded the second.
func (r *Reconciler) everything(ctx context.Context, full bool) (trouble, err error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	if err := r.listOwned(ctx); err != nil {
		return nil, err
	}
	r.takeAll()
	failed := map[*network]error{}
	each := func(do func(context.Context, *network) error) {
		for _, n := range r.networks {
			if err := do(ctx, n); err != nil {
				failed[n] = errors.Join(failed[n], err)
			}
		}
	}
	for _, n := range r.networks {
		n.inspect(r.owned, full)
	}
	each(r.ensureDevice)
	if err := r.syncAllFlows(ctx, full); err != nil {
		return nil, err
	}
	each(r.syncFDB)
	each(r.mendLinks)
	trouble, err = r.syncAllPorts(ctx)
	if err != nil {
		return nil, err
	}
	each(r.drop)
	errs := []error{trouble, r.collectLinks(ctx), r.clearLinks(ctx, full)}
	for _, n := range r.networks {
		if failed[n] == nil {
			r.finished(n)
		} else {
			errs = append(errs, failed[n])
		}
	}
	return errors.Join(errs...), nil
}

// prepare has bridge and connection.
func (r *Reconciler) prepare(ctx context.Context) error {
	if err := r.sw.Ready(); err != nil {
		return err
	}
	if err := r.decide(); err != nil {
		return err
	}
	if err := r.sw.EnsureBridge(ctx, ovsctl.BridgeSpec{Datapath: r.datapath}); err != nil {
		return err
	}
	return r.connect(ctx)
}

// decide chooses datapath and tunnel kind, once the database can be asked.
func (r *Reconciler) decide() error {
	info := r.sw.Info()
	r.datapath = ovsctl.DatapathNetdev
	if r.links.HasKernelDatapath() && slices.Contains(info.DatapathTypes, ovsctl.DatapathSystem) {
		r.datapath = ovsctl.DatapathSystem
	}
	r.tso = r.datapath == ovsctl.DatapathSystem || info.TSO
	r.tunnel = r.opts.Tunnel
	onBridge := r.sw.HasBridge(r.underlay.Dev, r.datapath)
	if r.tunnel == "" {
		r.tunnel = dataplane.TunnelKernel
		if r.datapath == ovsctl.DatapathSystem || onBridge {
			r.tunnel = dataplane.TunnelOVS
		}
	}
	r.setStatus(func(s *Status) { s.Datapath, s.Tunnel, s.TSO = r.datapath, r.tunnel, r.tso })
	if r.tunnel == dataplane.TunnelOVS && r.datapath == ovsctl.DatapathNetdev && !onBridge {
		return fmt.Errorf("--tunnel ovs in user space needs the address %s on an OVS bridge, it is on %s: "+
			"use --tunnel kernel, or move the interface into a bridge", r.underlay.Addr, r.underlay.Dev)
	}
	return nil
}

// connect has a connection to the switch; a new one begins a new generation.
func (r *Reconciler) connect(ctx context.Context) error {
	if r.conn != nil && r.conn.Err() == nil {
		return nil
	}
	r.cookie = 0 // the switch may be another one: syncAllFlows replays
	if r.conn != nil {
		_ = r.conn.Close() // broken already
		r.conn = nil
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := openflow.Dial(dialCtx, r.sw.MgmtPath())
	if err != nil {
		return err
	}
	r.conn, r.dialled = conn, time.Now()
	return nil
}

// syncAllFlows makes the switch's flows equal to the wanted ones.
func (r *Reconciler) syncAllFlows(ctx context.Context, full bool) error {
	if r.cookie == 0 || r.baseFor != r.pipeline() {
		return r.replay(ctx)
	}
	var all []*network
	for _, n := range r.networks {
		all = append(all, n)
	}
	if err := r.syncFlows(ctx, all...); err != nil || !full {
		return err
	}
	return r.mendFlows(ctx)
}

// syncAllPorts makes all ports true. That a name is another's is trouble of one endpoint.
func (r *Reconciler) syncAllPorts(ctx context.Context) (trouble, err error) {
	for _, n := range r.networks {
		n.ports = r.portsOf(n)
	}
	changes, err := r.sw.SyncPorts(ctx, r.ports())
	if err != nil && !errors.Is(err, ovsctl.ErrForeign) {
		return nil, err
	}
	if changes != (ovsctl.Changes{}) {
		r.setStatus(func(s *Status) { s.Drift.Ports++ })
		r.log.Info("ports mended", "added", changes.Added, "removed", changes.Removed, "mended", changes.Mended)
	}
	return err, nil
}
