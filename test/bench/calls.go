package bench

import (
	"context"
	"time"
)

// Calls are the times of one agent's answers, in milliseconds.
type Calls struct {
	Name                                 string
	Address, Create, Join, Attach, Leave Series
	// Reported is what the agent itself says in its metrics, by method: over the same calls.
	Reported map[string]Histogram
}

// callEvery is the time from one endpoint to the next. Without it the cluster's taking up of the former endpoint would be
// measured with the next one's calls; a dockerd starts a few containers a second at most.
const callEvery = 100 * time.Millisecond

// calls creates, joins and removes endpoints one after the other, while each host has one more endpoint on the network.
func (w *world) calls(ctx context.Context, s site, seg *segment) (*Calls, error) {
	var residents []*endpoint
	for _, n := range seg.on {
		e, err := n.joined(ctx)
		if err != nil {
			return nil, err
		}
		residents = append(residents, e)
	}
	c := &Calls{Name: s.name}
	before, err := scrape(ctx, s.lab.Hosts[0])
	if err != nil {
		return nil, err
	}
	pace := time.NewTicker(callEvery)
	defer pace.Stop()
	for range w.opts.Calls {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		e, err := seg.on[0].joined(ctx)
		if err != nil {
			return nil, err
		}
		if err := e.remove(ctx); err != nil {
			return nil, err
		}
		c.add(e.took)
	}
	after, err := scrape(ctx, s.lab.Hosts[0])
	if err != nil {
		return nil, err
	}
	c.Reported = after.since(before)
	for _, e := range residents {
		if err := e.remove(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Calls) add(t callTimes) {
	c.Address = append(c.Address, milli(t.address))
	c.Create = append(c.Create, milli(t.create))
	c.Join = append(c.Join, milli(t.join))
	c.Attach = append(c.Attach, milli(t.create+t.join))
	c.Leave = append(c.Leave, milli(t.leave))
}

func milli(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }
