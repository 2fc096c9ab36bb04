package mirror

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
)

// news is what Docker's events have told since it was asked last: what is to be asked of it.
type news struct {
	all bool // anything may have changed
	// networks were made or removed, by id.
	networks map[string]bool
	// endpoints of these networks came or went, by the network's id.
	endpoints map[string]bool
	// containers were started, renamed, or connected to a network, by id.
	containers map[string]bool
	left       bool // a container left a network
	destroyed  bool // a network was removed
}

// Heard notes one of Docker's events, and makes a pass come at once. It never blocks.
func (m *Mirror) Heard(e dockerwatch.Event) {
	var n news
	switch {
	case e == dockerwatch.Event{}:
		n.all = true
	case e.Kind == dockerwatch.KindContainer && (e.Action == dockerwatch.ActionStart || e.Action == dockerwatch.ActionRename):
		n.containers = map[string]bool{e.ID: true}
	case e.Kind != dockerwatch.KindNetwork:
	case e.Action == dockerwatch.ActionConnect:
		n.endpoints = map[string]bool{e.ID: true}
		if e.Container != "" {
			n.containers = map[string]bool{e.Container: true}
		}
	case e.Action == dockerwatch.ActionDisconnect:
		n.endpoints, n.left = map[string]bool{e.ID: true}, true
	case e.Action == dockerwatch.ActionCreate || e.Action == dockerwatch.ActionDestroy:
		n.networks, n.destroyed = map[string]bool{e.ID: true}, e.Action == dockerwatch.ActionDestroy
	}
	m.mu.Lock()
	m.news.add(n)
	m.mu.Unlock()
	m.Wake()
}

func (n *news) add(other news) {
	join := func(to *map[string]bool, from map[string]bool) {
		if *to == nil {
			*to = map[string]bool{}
		}
		maps.Copy(*to, from)
	}
	join(&n.networks, other.networks)
	join(&n.endpoints, other.endpoints)
	join(&n.containers, other.containers)
	n.all, n.left, n.destroyed = n.all || other.all, n.left || other.left, n.destroyed || other.destroyed
}

// take takes the news. Everything is asked for at first, after each connection to Docker, and rarely.
func (m *Mirror) take() news {
	m.mu.Lock()
	n := m.news
	m.news = news{}
	m.mu.Unlock()
	n.all = n.all || m.asked.IsZero() || time.Since(m.asked) >= m.opts.Times.All
	return n
}

// taken ends a pass for which the news were taken: they are news again if it failed.
func (m *Mirror) taken(n news, err error) {
	if err == nil {
		if n.all {
			m.asked = time.Now()
		}
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.news.add(n)
}

// networks are Docker's networks of our driver: as they were, with what the news name asked for.
func (m *Mirror) networks(ctx context.Context, n news) ([]dockerwatch.Network, error) {
	if n.all || m.doubtful || m.here == nil {
		all, err := m.docker.Networks(ctx)
		if err != nil {
			return nil, err
		}
		m.doubtful, m.here = false, map[string]dockerwatch.Network{}
		for _, one := range all {
			m.here[one.ID] = one
		}
		return all, nil
	}
	for id := range n.networks {
		one, err := m.docker.Network(ctx, id)
		switch {
		case errors.Is(err, dockerwatch.ErrNotFound):
			delete(m.here, id)
		case err != nil:
			return nil, err
		case one.Driver == DriverName:
			m.here[id] = one
		}
	}
	return slices.Collect(maps.Values(m.here)), nil
}

// compare says whether Docker's list is asked for by the next pass: it does not have what is bound here, or has more. Docker lists a network that is being
// made later than it is bound, and an event may have been lost.
func (p *pass) compare() (differs bool) {
	for id := range p.here {
		if _, bound := p.bound[id]; !bound {
			return true
		}
	}
	for id, b := range p.bound {
		if _, there := p.here[id]; !there && !b.Removing {
			return true
		}
	}
	return false
}
