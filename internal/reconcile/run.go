package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
	"github.com/socketplane/socketplane/ovsctl/pipeline"
)

// A flow's cookie says whose it is and from which generation: 0x5350 ("SP"), 16 bits
// of zero, and the generation.
const (
	cookieOwner     uint64 = 0x5350 << 48
	cookieOwnerMask uint64 = 0xffff << 48
	generationMask  uint64 = 1<<32 - 1
)

// Bounds of one pass over everything, and of the pause after one that failed.
const (
	passTimeout = 8 * time.Second
	dialTimeout = 2 * time.Second
	retryAfter  = 500 * time.Millisecond
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
	for check := true; ; {
		var again <-chan time.Time
		if err := r.pass(ctx, check); err != nil && ctx.Err() == nil {
			again = time.After(retryAfter)
		}
		check = false
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-again:
		case <-r.poke:
		case <-r.sw.Changed():
		case <-r.broken():
		case _, open := <-links:
			if !open {
				links = nil // ends with ctx
			}
		case <-ticker.C:
			check = true
		}
	}
}

func (r *Reconciler) broken() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return nil
	}
	return r.conn.Done()
}

func (r *Reconciler) disconnect() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != nil {
		_ = r.conn.Close() // nothing is owed to a connection that is not used any more
		r.conn = nil
	}
}

// pass makes everything true once; check also compares the flows with what the switch has.
func (r *Reconciler) pass(ctx context.Context, check bool) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.everything(ctx, check)
	if err != nil && !errors.Is(err, ErrNotReady) {
		err = fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	r.setReady(err)
	if err == nil {
		r.setStatus(func(s *Status) { s.LastSync = time.Now() })
	}
	return err
}

func (r *Reconciler) everything(ctx context.Context, check bool) error {
	if err := r.sw.Ready(); err != nil {
		return err
	}
	if err := r.decide(); err != nil {
		return err
	}
	spec := ovsctl.BridgeSpec{Datapath: r.datapath}
	if err := r.sw.EnsureBridge(ctx, spec); err != nil {
		return err
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	for _, n := range r.networks {
		if err := r.ensureDevice(ctx, n); err != nil {
			return err
		}
	}
	if err := r.syncFlows(ctx, check); err != nil {
		return err
	}
	for _, n := range r.networks {
		if err := r.syncFDB(ctx, n); err != nil {
			return err
		}
	}
	changes, err := r.sw.SyncPorts(ctx, r.ports())
	if err != nil {
		return err
	}
	if changes != (ovsctl.Changes{}) {
		r.log.Info("ports mended", "added", changes.Added, "removed", changes.Removed, "mended", changes.Mended)
	}
	for _, n := range r.networks {
		if err := r.dropDevice(ctx, n); err != nil {
			return err
		}
	}
	return r.collectLinks(ctx)
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
	onBridge := r.sw.HasBridge(r.opts.Underlay.Dev, r.datapath)
	if r.tunnel == "" {
		r.tunnel = dataplane.TunnelKernel
		if r.datapath == ovsctl.DatapathSystem || onBridge {
			r.tunnel = dataplane.TunnelOVS
		}
	}
	if r.tunnel == dataplane.TunnelOVS && r.datapath == ovsctl.DatapathNetdev && !onBridge {
		return fmt.Errorf("--tunnel ovs in user space needs the address %s on an OVS bridge, it is on %s: "+
			"use --tunnel kernel, or move the interface into a bridge", r.opts.Underlay.Addr, r.opts.Underlay.Dev)
	}
	r.setStatus(func(s *Status) { s.Datapath, s.Tunnel, s.TSO = r.datapath, r.tunnel, r.tso })
	return nil
}

// connect has a connection to the switch; a new one begins a new generation.
func (r *Reconciler) connect(ctx context.Context) error {
	if r.conn != nil && r.conn.Err() == nil {
		return nil
	}
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
	r.conn = conn
	r.cookie = 0 // syncFlows finds the generation and replays
	return nil
}

// syncFlows makes the switch's flows equal to the wanted ones. On a new connection, or
// when check finds drift, everything is replayed under a new generation in one bundle and
// older generations are deleted after: traffic never stops.
func (r *Reconciler) syncFlows(ctx context.Context, check bool) error {
	if r.cookie != 0 && !check {
		for _, n := range r.networks {
			want := r.flows(n)
			if err := r.change(ctx, r.diff(n.installed, want)); err != nil {
				return err
			}
			n.installed = want
		}
		r.countFlows()
		return nil
	}
	have, err := r.conn.Dump(ctx, cookieOwner, cookieOwnerMask)
	if err != nil {
		return err
	}
	if r.cookie != 0 && r.same(have) {
		return nil
	}
	if r.cookie != 0 {
		r.log.Warn("flows of the switch differ from what they should be: replaying all")
		r.setStatus(func(s *Status) { s.Drift++ })
	}
	return r.replay(ctx, have)
}

// same compares the switch's flows with the wanted ones.
func (r *Reconciler) same(have []openflow.Flow) bool {
	want := r.wanted()
	if len(have) != len(want) {
		return false
	}
	for _, f := range have {
		if w, ok := want[f.Key()]; !ok || !f.Equal(w) {
			return false
		}
	}
	return true
}

func (r *Reconciler) wanted() map[string]openflow.Flow {
	all := r.keyed(pipeline.Base(r.pipeline()))
	for _, n := range r.networks {
		for key, f := range r.flows(n) {
			all[key] = f
		}
	}
	return all
}

func (r *Reconciler) replay(ctx context.Context, have []openflow.Flow) error {
	old := map[uint64]bool{}
	var last uint64
	for _, f := range have {
		old[f.Cookie] = true
		last = max(last, f.Cookie&generationMask)
	}
	r.cookie = cookieOwner | (last+1)&generationMask
	change := openflow.Change{}
	for _, f := range r.wanted() {
		change.Add = append(change.Add, f)
	}
	if err := r.change(ctx, change); err != nil {
		r.cookie = 0
		return err
	}
	r.base = r.keyed(pipeline.Base(r.pipeline()))
	for _, n := range r.networks {
		n.installed = r.flows(n)
	}
	generation := uint32(r.cookie & generationMask)
	r.log.Info("flows replayed", "flows", len(change.Add), "generation", generation)
	r.setStatus(func(s *Status) { s.Generation = generation })
	r.countFlows()
	for cookie := range old {
		if err := r.conn.DeleteCookie(ctx, cookie, ^uint64(0)); err != nil {
			return err
		}
	}
	return nil
}

// collectLinks removes links of ours that belong to no endpoint or device that is known.
func (r *Reconciler) collectLinks(ctx context.Context) error {
	keep := map[string]bool{}
	for _, n := range r.networks {
		keep[n.device.name] = true
		for _, e := range n.want.Local {
			keep[e.HostLink] = true
		}
	}
	owned, err := r.links.Owned(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range owned {
		if keep[l.Name] || !strings.HasPrefix(l.Alias, hostlink.OwnerPrefix) {
			continue
		}
		r.log.Info("removing a link that nothing needs", "link", l.Name, "alias", l.Alias)
		errs = append(errs, r.links.DeleteLink(ctx, l.Name))
	}
	return errors.Join(errs...)
}
