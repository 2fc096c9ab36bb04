package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

const (
	// hostsAtOnce is how many hosts' parts are listed at once, at most: about 2 MiB of Consul's JSON where each has 100 endpoints.
	hostsAtOnce = 128
	// readAhead is how many such lists are under way or wait while one is taken over.
	readAhead = 2
)

// Walk says what EachHost reads.
type Walk struct {
	// Hosts is how many hosts the cluster has about. Of few hosts all records are listed at once.
	Hosts int
	// Labels asks for the containers' labels, too.
	Labels bool
}

// EachHost gives each host's endpoints on a network, in either form, one host after the other in no order, and ends with the first error of each. It
// reads some hosts' records while others are taken over, and keeps no more than these in memory.
//
// A host's endpoints are as they were at one moment, those of two hosts may be of two. An endpoint that is published throughout is given once. A host that
// changes the form of its records at this moment may be missing.
func (c EndpointRecords) EachHost(ctx context.Context, network string, walk Walk, each func(Endpoints) error) error {
	former := map[string]Endpoints{}
	if err := list(ctx, c.kv, EndpointsPrefix(network), func(at Entry, e Endpoints) { former[Last(at.Key)] = e }); err != nil {
		return err
	}
	groups := []string{""}
	if walk.Hosts > hostsAtOnce {
		heads, err := c.kv.List(ctx, HeadsOf(network))
		if err != nil {
			return err
		}
		groups = spans(heads, hostsAtOnce)
	}
	err := c.eachGroup(ctx, network, groups, walk.Labels, func(e Endpoints) error {
		delete(former, e.Host) // is from before a change of form
		return each(e)
	})
	if err != nil {
		return err
	}
	for _, e := range former {
		if err := each(e); err != nil {
			return err
		}
	}
	return nil
}

// eachGroup reads the parts of hosts whose ids, with a slash behind them, begin with one of the prefixes.
func (c *core) eachGroup(ctx context.Context, network string, groups []string, labels bool, each func(Endpoints) error) error {
	type answer struct {
		hosts []Endpoints
		err   error
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ahead := make(chan chan answer, readAhead)
	running.Go(func() {
		defer close(ahead)
		for _, prefix := range groups {
			next := make(chan answer, 1)
			select {
			case ahead <- next:
			case <-ctx.Done():
				return
			}
			running.Go(func() {
				hosts, err := c.readGroup(ctx, network, prefix, labels)
				next <- answer{hosts, err}
			})
		}
	})
	for next := range ahead {
		a := <-next
		if a.err != nil {
			return a.err
		}
		for _, e := range a.hosts {
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return context.Cause(ctx)
}

// readGroup reads the parts of some hosts.
func (c *core) readGroup(ctx context.Context, network, prefix string, labels bool) ([]Endpoints, error) {
	entries, err := c.kv.List(ctx, partsPrefix+network+"/"+prefix)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	var apart map[string]map[string]string
	if labels {
		if apart, err = c.labels(ctx, labelsPrefix+network+"/"+prefix); err != nil {
			return nil, err
		}
	}
	var all []Endpoints
	for _, e := range entries {
		host, _, err := partOfKey(e.Key)
		if err != nil {
			return nil, err
		}
		p, err := DecodePart(e)
		if err != nil {
			return nil, err
		}
		withLabels(p.Endpoints, apart)
		if n := len(all); n == 0 || all[n-1].Host != host { // they come in the order of their keys
			all = append(all, Endpoints{Schema: Schema, Network: network, Host: host})
		}
		its := &all[len(all)-1]
		its.Endpoints = append(its.Endpoints, p.Endpoints...)
	}
	return all, nil
}

// spans are prefixes of host ids with a slash behind them: each host that has one of the heads has one of them, and none has more than so many hosts.
func spans(heads []Entry, most int) []string {
	names := make([]string, 0, len(heads))
	for _, e := range heads {
		names = append(names, Last(e.Key)+"/")
	}
	slices.Sort(names)
	return cut(slices.Compact(names), 0, most)
}

// cut is spans for sorted names that have their first bytes in common. No name begins with another.
func cut(names []string, common, most int) (prefixes []string) {
	if len(names) == 0 {
		return nil
	}
	if len(names) <= most {
		first, last := names[0], names[len(names)-1]
		for common < min(len(first), len(last)) && first[common] == last[common] {
			common++
		}
		return []string{first[:common]}
	}
	for len(names) > 0 {
		n := 0
		for n < len(names) && names[n][common] == names[0][common] {
			n++
		}
		prefixes = append(prefixes, cut(names[:n], common+1, most)...)
		names = names[n:]
	}
	return prefixes
}

// AllEndpoints are the endpoints that EachHost gives, of hosts sorted by id.
func (c EndpointRecords) AllEndpoints(ctx context.Context, network string) ([]Endpoints, error) {
	var all []Endpoints
	err := c.EachHost(ctx, network, Walk{Labels: true}, func(e Endpoints) error { all = append(all, e); return nil })
	slices.SortFunc(all, func(a, b Endpoints) int { return strings.Compare(a.Host, b.Host) })
	return all, err
}
