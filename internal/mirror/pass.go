package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
)

// changesAtOnce is how many networks are made or removed side by side; Docker itself does little at once.
const changesAtOnce = 4

// pass is one comparison.
type pass struct {
	*Mirror
	bound    map[string]netview.Network // by Docker's id
	declared map[string]string          // the cluster's id to name
	// Networks whose removal here is not settled, by the cluster's id and by name.
	leaving, leavingNames map[string]bool
	uses                  []store.Use // the subnets that this host uses by itself

	unknown atomic.Bool // the cluster knows nothing of a network here, and may not be the one that it was

	mu    sync.Mutex
	found map[string]Trouble
}

// pass compares once, and changes what differs.
func (m *Mirror) pass(ctx context.Context) error {
	if err := m.docker.Ready(); err != nil {
		return err
	}
	n := m.take()
	err := m.passWith(ctx, n)
	m.taken(n, err)
	return err
}

func (m *Mirror) passWith(ctx context.Context, n news) error {
	described := errors.Join(m.describe(ctx, n), m.forget(ctx, n))
	if !m.opts.Follow {
		return described
	}
	// Docker first: what is bound afterwards and not in the list was made meanwhile, and the next pass sees it.
	here, err := m.networks(ctx, n)
	if err != nil {
		return errors.Join(described, err)
	}
	p := &pass{Mirror: m, bound: map[string]netview.Network{}, found: map[string]Trouble{}}
	described = errors.Join(described, p.first(ctx))
	for _, b := range m.driver.Networks() {
		p.bound[b.DockerID] = b
	}
	m.doubtful = p.compare()
	p.leaving, p.leavingNames = m.beingRemoved()
	if p.declared, err = m.declarations(ctx); p.declared == nil {
		return errors.Join(described, err)
	} else if err != nil {
		p.trouble("", "declarations", "%s", err)
	}
	p.again()
	p.uses, err = p.opts.Uses(ctx)
	if err != nil {
		return errors.Join(described, err)
	}
	p.duplicates(here)
	err = errors.Join(p.present(ctx, here), p.absent(ctx), p.vanished(ctx, here))
	switch {
	case p.unknown.Load():
		m.remembered = false // it is noted when all are known again
	case err == nil:
		err = m.remember(ctx)
	}
	if ctx.Err() == nil {
		m.report(p.found)
	}
	return errors.Join(described, err)
}

// each does something for many at once; every error is returned.
func each[T any](all []T, do func(T) error) error {
	var group errgroup.Group
	group.SetLimit(changesAtOnce)
	errs := make([]error, len(all))
	for i, v := range all {
		group.Go(func() error { errs[i] = do(v); return nil })
	}
	_ = group.Wait()
	return errors.Join(errs...)
}

func (p *pass) trouble(id, name, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.found[name] = Trouble{Network: id, Name: name, Text: fmt.Sprintf(format, args...), Since: time.Now().UTC()}
}

// errSoon says that what is trouble already should be tried again soon.
var errSoon = errors.New("not yet")

// quickTries is how often a network that Docker refuses is tried again at once; then with each pass.
const quickTries = 3

// alone makes an error that concerns one network that network's trouble: others go on, and it is tried again with the next pass. An
// error of all, such as a store that does not answer, stays one.
func (p *pass) alone(ctx context.Context, id, name string, err error) error {
	switch {
	case err == nil, ctx.Err() != nil, errors.Is(err, errSoon), errors.Is(err, store.ErrUnavailable), errors.Is(err, dockerwatch.ErrUnavailable), errors.Is(err, store.ErrConflict):
		return err
	}
	p.trouble(id, name, "%s", err)
	return nil
}

// refused notes that Docker will not make or remove a network; it is true if that should be tried again soon.
func (p *pass) refused(id string) (soon bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusals[id]++
	return p.refusals[id] <= quickTries
}

// accepted forgets what refused noted.
func (p *pass) accepted(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.refusals, id)
}

// present looks at the networks that Docker has.
func (p *pass) present(ctx context.Context, here []dockerwatch.Network) error {
	strange := map[string]time.Time{}
	for _, n := range here {
		if _, ok := p.bound[n.ID]; ok {
			continue
		}
		// It is being removed at this moment, or the state directory is not what it was.
		since, known := p.strange[n.ID]
		if !known {
			since = time.Now()
		}
		if strange[n.ID] = since; time.Since(since) > p.opts.Times.Strange {
			p.trouble("", n.Name, "SocketPlane on this host has no record of it: 'docker network rm %s', and create it again if it does not come back", called(n))
		}
	}
	p.strange = strange
	return each(here, func(n dockerwatch.Network) error {
		b, ok := p.bound[n.ID]
		if !ok || b.Removing || p.leavingNames[n.Name] { // the name may be free in a moment; then there is another pass
			return nil
		}
		err := p.agree(ctx, n, b)
		if err == nil {
			err = p.driver.Looked(ctx, n.ID)
		}
		return p.alone(ctx, b.ID, n.Name, err)
	})
}

// agree makes one of Docker's networks and the cluster's agree.
func (p *pass) agree(ctx context.Context, n dockerwatch.Network, b netview.Network) error {
	switch name, declared := p.declared[b.ID]; {
	case b.Cut != "":
		return p.cutOff(ctx, n, b, b.Cut)
	case declared && (name == n.Name || b.Asked):
		p.overlaps(n, b)
		return p.name(ctx, n, b)
	case declared:
		return p.cutOff(ctx, n, b, shares(n, b, name))
	}
	return p.undeclared(ctx, n, b)
}

// name makes the driver know the network's name.
func (p *pass) name(ctx context.Context, n dockerwatch.Network, b netview.Network) error {
	if b.Name == n.Name || b.Asked {
		return nil
	}
	if err := p.driver.SetName(ctx, n.ID, n.Name); !errors.Is(err, driver.ErrUnknown) {
		return err
	}
	return nil
}

// shares is why a Docker network is cut off: name is the cluster's network with its subnet.
func shares(n dockerwatch.Network, b netview.Network, name string) string {
	if b.Copied {
		return fmt.Sprintf("network %s was removed on another host, and the cluster's network %s has its subnet now, so %s is cut off here: "+
			"remove its containers of this host or disconnect them, then it goes by itself and %s comes", called(n), name, called(n), name)
	}
	return fmt.Sprintf("docker network %s of this host has a subnet of the cluster's network %s, which was created first, and is cut off from it: "+
		"'docker network rm %s' and create it with another --subnet", called(n), name, called(n))
}

// cutOff is for a network that the cluster knows by another name: two networks never share a segment. A copy of ours, and a network that
// replace began to remove, goes as soon as nothing uses it; what else a user made stays, and its removal is the user's.
func (p *pass) cutOff(ctx context.Context, n dockerwatch.Network, b netview.Network, why string) error {
	if (b.Copied || b.Dropped) && b.Endpoints == 0 {
		return p.drop(ctx, n, b, why)
	}
	p.trouble(b.ID, n.Name, "%s", why)
	if err := p.driver.CutOff(ctx, n.ID, why); !errors.Is(err, driver.ErrUnknown) {
		return err
	}
	return nil // it is going
}

// undeclared tells the cluster of a network that was made here, or ends one that the cluster has ended.
func (p *pass) undeclared(ctx context.Context, n dockerwatch.Network, b netview.Network) error {
	record, err := p.cluster.Network(ctx, b.ID)
	if errors.Is(err, store.ErrNotFound) {
		return p.unrecorded(ctx, n, b)
	}
	if err != nil {
		return err
	}
	if record.State == store.Deleting {
		return p.drop(ctx, n, b, "it was removed on another host")
	}
	name := n.Name
	if b.Asked {
		name = b.Name
	}
	_, err = p.cluster.Declare(ctx, b.ID, name, declaration(n))
	switch {
	case err == nil:
		p.log.Info("network is told to the other hosts", "network", n.Name, "pools", b.Pools)
		p.told(b.ID)
		return p.name(ctx, n, b)
	case errors.Is(err, store.ErrNameTaken):
		return p.replace(ctx, n, b)
	case errors.Is(err, store.ErrMismatch):
		if other, err := p.cluster.Network(ctx, b.ID); err == nil { // it was named since
			record = other
		}
		return p.cutOff(ctx, n, b, shares(n, b, record.Title()))
	case errors.Is(err, store.ErrNotFound): // removed meanwhile
		return nil
	}
	return err
}

// absent makes the declared networks that this host does not have.
func (p *pass) absent(ctx context.Context) error {
	have := map[string]bool{}
	for _, b := range p.bound {
		have[b.ID] = true
	}
	var missing []string
	for id := range p.declared {
		if !have[id] && !p.leaving[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return each(missing, func(id string) error { return p.alone(ctx, id, cmp.Or(p.declared[id], id), p.copyOf(ctx, id)) })
}

// copyOf makes one network here, unless this host let go of it or something stands in the way.
func (p *pass) copyOf(ctx context.Context, id string) error {
	n, err := p.cluster.Network(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if n.State == store.Deleting || n.Declared == nil {
		return nil
	}
	if own, err := p.cluster.Bound(ctx, id); err != nil || own.Away {
		return err
	}
	other, err := p.docker.Named(ctx, n.Name)
	if err == nil {
		if other.Driver == DriverName {
			return nil // what stands in its way is looked at where it is present
		}
		p.trouble(id, n.Name, "this host has a network of that name with driver %s: 'docker network rm %s' lets the cluster's come", other.Driver, called(other))
		return nil
	}
	if !errors.Is(err, dockerwatch.ErrNotFound) {
		return err
	}
	if why := p.forbidden(n.Pools, n.Name); why != "" {
		p.trouble(id, n.Name, "%s", why)
		return nil
	}
	done := p.driver.Expect(id, n.Pools)
	created, err := p.docker.Create(ctx, copied(n))
	done(ctx, created)
	if err == nil {
		p.accepted(id)
		p.log.Info("network is brought here", "network", n.Name, "pools", n.Pools)
		return nil
	}
	if errors.Is(err, dockerwatch.ErrRefused) {
		p.trouble(id, n.Name, "%s", err)
		if !p.refused(id) {
			return nil
		}
		return fmt.Errorf("%w: %w", errSoon, err)
	}
	return err
}

// vanished ends networks here that Docker no longer has.
func (p *pass) vanished(ctx context.Context, here []dockerwatch.Network) error {
	has := map[string]bool{}
	for _, n := range here {
		has[n.ID] = true
	}
	now := time.Now()
	var gone []netview.Network
	for id, b := range p.bound {
		if has[id] || b.Removing {
			delete(p.missing, id)
			continue
		}
		if since, known := p.missing[id]; !known {
			p.missing[id] = now
		} else if b.Engine != "" && p.opts.Lives != nil && p.opts.Lives(b.Engine) {
			if now.Sub(since) > p.opts.Times.Vanished {
				p.trouble(b.ID, cmp.Or(b.Name, b.ID), "this host's Docker does not list it, and process %s that made it still runs: another Docker Engine uses the agent's socket. "+
					"It is left alone; give that engine a /run/docker/plugins of its own, with its own agent", b.Engine)
			}
		} else if now.Sub(since) > p.opts.Times.Vanished {
			gone = append(gone, b)
		}
	}
	maps.DeleteFunc(p.missing, func(id string, _ time.Time) bool { _, bound := p.bound[id]; return !bound })
	return p.endVanished(ctx, gone)
}
