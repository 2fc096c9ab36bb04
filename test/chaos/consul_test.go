package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/internal/proxy"
	"github.com/socketplane/socketplane/test/lab"
)

// servers is how many Consul servers there are: one less still has a majority.
const servers = 3

// consulServer is whom a fault kills that kills servers.
const consulServer lab.Daemon = "consul"

// lateBy is longer than the agents' patience with Consul.
const lateBy = 9 * time.Second

// front is what the agents take for Consul: a proxy, behind which they reach one server as long as it accepts connections, else the
// next one. So does a Consul client.
type front struct {
	*proxy.Proxy
	first atomic.Int64 // the number of the server that is asked
}

func (w *world) dialConsul() (net.Conn, error) {
	var errs []error
	for i := range w.Consuls {
		c, err := net.Dial("unix", w.Consuls[(int(w.front.first.Load())+i)%len(w.Consuls)].Socket)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// leader is the server that leads.
func (w *world) leader(ctx context.Context) (found *lab.Consul, err error) {
	err = w.waitFor(ctx, lookLimit, func(ctx context.Context) error {
		for _, c := range w.Consuls {
			leads, err := c.Leads(ctx)
			if err != nil {
				return err
			}
			if leads {
				found = c
				return nil
			}
		}
		return errors.New("no server leads")
	})
	return found, err
}

// onLeader strikes the server that leads, and mendLeader mends it.
func onLeader(strike func(*lab.Consul)) func(context.Context, *world, *lab.Host) error {
	return func(ctx context.Context, w *world, _ *lab.Host) (err error) {
		if w.struck, err = w.leader(ctx); err != nil {
			return err
		}
		strike(w.struck)
		return nil
	}
}

func mendLeader(mend func(context.Context, *lab.Consul) error) func(context.Context, *world, *lab.Host) error {
	return func(ctx context.Context, w *world, _ *lab.Host) error {
		if w.struck == nil {
			return nil // none was found
		}
		defer func() { w.struck = nil }()
		return mend(ctx, w.struck)
	}
}

// onServers does something to all servers at once.
func onServers(do func(context.Context, *lab.Consul) error) func(context.Context, *world, *lab.Host) error {
	return func(ctx context.Context, w *world, _ *lab.Host) error {
		var g errgroup.Group
		for _, c := range w.Consuls {
			g.Go(func() error { return do(ctx, c) })
		}
		return g.Wait()
	}
}

func startServer(ctx context.Context, c *lab.Consul) error { return c.Start(ctx) }

func killServer(_ context.Context, c *lab.Consul) error {
	c.Kill()
	return nil
}

func pauseServer(_ context.Context, c *lab.Consul) error {
	c.Pause()
	return nil
}

func resumeServer(_ context.Context, c *lab.Consul) error {
	c.Resume()
	return nil
}

// consulFaults are those of Consul as a whole, of the server that leads it, and of the way to it.
func consulFaults() []fault {
	return []fault{
		{name: "consul_killed", kills: consulServer, everywhere: true, hold: time.Second, strike: onServers(killServer), mend: onServers(startServer)},
		{name: "consul_stopped", everywhere: true, hold: paused, strike: onServers(pauseServer), mend: onServers(resumeServer)},
		{name: "consul_leader_killed", kills: consulServer, everywhere: true, hold: paused, strike: onLeader((*lab.Consul).Kill),
			mend: mendLeader(startServer)},
		{name: "consul_leader_stopped", everywhere: true, hold: paused, strike: onLeader((*lab.Consul).Pause), mend: mendLeader(resumeServer)},
		// Late: requests take effect after whoever sent them has given up. Mute: they do, and the answer is lost.
		{name: "consul_late", everywhere: true, hold: paused, strike: setProxy(proxy.Late), mend: func(ctx context.Context, w *world, _ *lab.Host) error {
			w.front.Set(proxy.Pass)
			return pause(ctx, lateBy) // the last late request is then no longer on its way
		}},
		{name: "consul_mute", everywhere: true, hold: paused, strike: setProxy(proxy.Mute), mend: func(ctx context.Context, w *world, h *lab.Host) error {
			w.front.Set(proxy.Pass)
			w.front.Cut()
			return nil
		}},
	}
}

func setProxy(mode proxy.Mode) func(context.Context, *world, *lab.Host) error {
	return func(_ context.Context, w *world, _ *lab.Host) error {
		w.front.Set(mode)
		return nil
	}
}

func serverName(i int) string { return fmt.Sprintf("%s %d", consulServer, i+1) }
