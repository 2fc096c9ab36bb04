package ovs

import (
	"context"
	"errors"
	"time"

	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/ovsctl/openflow"
)

const (
	// gather is how long changes of links and ports are gathered at least, and twice that at most: a Join makes several. They are looked at at multiples of it, as
	// internal/hostlink reads what the kernel tells of the host's network: a process that is woken once pays once.
	gather = 20 * time.Millisecond
	// compareEvery is how often all flows are compared where the switch tells of changes by others.
	compareEvery = 10 * time.Minute
	// fewStations is the largest number of endpoints elsewhere whose forwarding entries are compared each time that everything is looked at.
	fewStations = 2000
	// Pauses between comparisons of all flows because the switch told that another program changed one.
	driftMin, driftMax = 10 * time.Millisecond, 5 * time.Second
)

// watched is what Run waits for.
type watched struct {
	links    <-chan struct{}
	linkNews func() hostlink.LinkNews
	ports    <-chan struct{}
	portNews func() ovsctl.News
	ticker   *time.Ticker
	redial   retry.Pause
	drift    retry.Pause
	drifted  time.Time        // when the last comparison for drift was due
	compare  <-chan time.Time // when the next one is, nil if none is
}

func (p *Plane) watch(ctx context.Context) (*watched, error) {
	links, linkNews, err := p.links.WatchLinks(ctx)
	if err != nil {
		return nil, err
	}
	ports, portNews := p.sw.News()
	linkNews() // that all is new: the first pass looks at everything
	portNews()
	return &watched{
		links: links, linkNews: linkNews, ports: ports, portNews: portNews, ticker: time.NewTicker(p.opts.Resync),
		redial: retry.Pause{First: redialMin, Last: retryMax, Steady: steadyAfter},
		drift:  retry.Pause{First: driftMin, Last: driftMax, Steady: driftMax},
	}, nil
}

// await waits for a reason to look at everything, and says at what. next is what is looked at when again fires.
func (p *Plane) await(ctx context.Context, w *watched, again <-chan time.Time, next scope) (scope, error) {
	for {
		select {
		case <-ctx.Done():
			return next, context.Cause(ctx)
		case <-again:
			return next, nil
		case <-p.poke:
			return next, nil
		case <-p.drifted:
			if w.compare == nil {
				w.compare = time.After(w.drift.Next(time.Since(w.drifted)))
			}
		case <-w.compare:
			w.compare, w.drifted, next.compare = nil, time.Now(), true
			return next, nil
		case <-p.broken():
			w.redial.Wait(ctx, time.Since(p.dialled))
			return next, nil
		case <-w.ticker.C:
			return scope{full: true, compare: time.Since(p.compared) >= compareEvery}, nil
		case _, open := <-w.links:
			if !open {
				w.links = nil // ctx has ended
			}
			if !p.calm(ctx, w) {
				return next, nil
			}
		case <-w.ports:
			if !p.calm(ctx, w) {
				return next, nil
			}
		}
	}
}

// calm says whether what changed of links and ports is as it is wanted. What the plane itself changed is.
func (p *Plane) calm(ctx context.Context, w *watched) bool {
	retry.Sleep(ctx, time.Until(time.Now().Truncate(gather).Add(2*gather)))
	release, err := p.acquire(ctx)
	if err != nil {
		return true // ctx has ended
	}
	defer release()
	links, ports := w.linkNews(), w.portNews()
	if p.Ready() != nil || links.All || ports.All {
		return false
	}
	for _, name := range ports.Bridges {
		if name == p.sw.Bridge() && !p.bridgeServes() {
			return false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	calm := true
	for _, e := range links.Links {
		calm = p.expects(e) && calm // each is noted
	}
	for _, name := range ports.Ports {
		calm = calm && p.expectsPort(name)
	}
	return calm
}

// bridgeServes says whether the bridge is as EnsureBridge makes it, as far as that is quickly told.
func (p *Plane) bridgeServes() bool {
	row, err := p.sw.BridgeRow()
	return err == nil && row != nil && len(row.Controller) == 0 && row.DatapathType == p.datapath && row.FailMode != nil && *row.FailMode == "secure"
}

// expects takes note of what happened to a link, and says whether it is as wanted. Called in a turn, with mu held.
func (p *Plane) expects(e hostlink.LinkEvent) bool {
	name := e.Link.Name
	_, known := p.owned[name]
	switch {
	case e.Gone:
		delete(p.owned, name)
		return !known || p.left[name]
	case p.left[name]: // this was told before it went
		return true
	}
	p.owned[name] = e.Link
	if e.Addr || !e.Link.Up {
		return false
	}
	for _, n := range p.networks {
		if n.edits.links[name] {
			return true // a change that waits for its turn looks at it
		}
		if s := n.links[name]; s != nil {
			return !n.gone && known && (s.local.MTU == 0 || s.local.MTU == e.Link.MTU)
		}
		if n.device.name == name {
			return n.device.made.MTU == e.Link.MTU
		}
	}
	return false
}

// expectsPort says whether a port of the database is as wanted. Called in a turn, with mu held.
func (p *Plane) expectsPort(name string) bool {
	port, there := p.sw.Port(name)
	for _, n := range p.networks {
		if n.edits.links[name] {
			return true
		}
		number, wanted := n.ports[name]
		if n.devicePort == name {
			number, wanted = n.device.port, true
		}
		if wanted {
			return there && port.OFPort == number && port.Error == "" && port.Type == ""
		}
	}
	return !there || p.left[name] // the transaction is done, but its update has not come yet
}

// follow has the switch tell what others change of its flows, if it can.
func (p *Plane) follow(ctx context.Context) error {
	if p.monitored {
		return nil
	}
	err := p.conn.Monitor(ctx, openflow.MonitorOptions{}, p.told)
	if errors.Is(err, openflow.ErrNoMonitor) {
		return nil // all flows are compared with each full pass
	}
	p.monitored = err == nil
	return err
}

// told takes what the switch tells. It runs in the connection's reader.
func (p *Plane) told(events []openflow.FlowEvent) {
	for _, e := range events {
		ours := e.Flow.Cookie&cookieOwnerMask == cookieOwner
		if e.Kind == openflow.FlowAdded || e.Kind == openflow.FlowModified || e.Kind == openflow.FlowDeleted && ours {
			select {
			case p.drifted <- struct{}{}:
			default:
			}
			return
		}
	}
}

// few says whether the network's forwarding entries are compared with each full pass.
func (p *Plane) few(n *network) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := 0
	for _, peer := range n.peers {
		count += len(peer.stations)
	}
	return count <= fewStations
}
