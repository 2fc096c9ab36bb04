package mirror_test

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/mirror"
)

func (e *engine) Networks(context.Context) ([]dockerwatch.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.slow.Load() {
		return nil, dockerwatch.ErrUnavailable
	}
	e.count("all networks")
	var all []dockerwatch.Network
	for _, n := range e.networks {
		if n.Driver == mirror.DriverName {
			all = append(all, n)
		}
	}
	return all, e.ready()
}

func (e *engine) Named(_ context.Context, name string) (dockerwatch.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, n := range e.networks {
		if n.Name == name {
			return n, e.ready()
		}
	}
	return dockerwatch.Network{}, dockerwatch.ErrNotFound
}

// Attachments tells who has endpoints.
func (e *engine) Attachments(_ context.Context, of []string, want func(endpoint, name string) bool) ([]dockerwatch.Attachment, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(of) == 0 {
		e.count("all containers")
	} else {
		e.count("container")
	}
	var all []dockerwatch.Attachment
	for _, c := range e.containers {
		if asked := len(of) == 0 || slices.Contains(of, cmp.Or(c.id, "id of "+c.name)); asked && want(c.endpoint, c.name) && !time.Now().Before(c.listed) {
			all = append(all, dockerwatch.Attachment{NetworkID: c.network, EndpointID: c.endpoint, ContainerID: cmp.Or(c.id, "id of "+c.name), Name: c.name,
				Aliases: []string{"alias"}, Labels: e.labels})
		}
	}
	return all, e.ready()
}

// Endpoints tells which endpoints are on a network.
func (e *engine) Endpoints(_ context.Context, id string) (map[string]bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, ok := e.networks[id]
	e.count("endpoints of " + n.Name)
	if !ok {
		return nil, dockerwatch.ErrNotFound
	}
	known := map[string]bool{}
	for _, c := range e.containers {
		if c.network == id {
			known[c.endpoint] = true
		}
	}
	return known, e.ready()
}

// Pools are the subnets with our IPAM.
func (e *engine) Pools(context.Context) (map[netip.Prefix]bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count("pools")
	pools := map[netip.Prefix]bool{}
	for _, n := range e.networks {
		for _, s := range n.Subnets {
			if n.IPAMDriver == mirror.DriverName {
				pools[s.CIDR] = true
			}
		}
	}
	return pools, e.ready()
}

func (e *engine) Addresses(context.Context) (map[netip.Addr]bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count("addresses")
	return maps.Clone(e.elsewhere), e.ready()
}

// count counts a question, by what is asked for.
func (e *engine) count(question string) {
	if e.questions == nil {
		e.questions = map[string]int{}
	}
	e.questions[question]++
}

// counted gives the questions since it was called last.
func (e *engine) counted() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	questions := e.questions
	e.questions = nil
	return questions
}

// Network is one network.
func (e *engine) Network(_ context.Context, id string) (dockerwatch.Network, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.count("network")
	if e.slow.Load() {
		return dockerwatch.Network{}, dockerwatch.ErrUnavailable
	}
	n, ok := e.networks[id]
	if !ok {
		return n, dockerwatch.ErrNotFound
	}
	return n, e.ready()
}
