package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errAlive says that a host's agent is up, and changes its records itself.
var errAlive = errors.New("its agent is up")

// WithParts lists the hosts that have endpoints in the form of the second layout, by id. In the
// first layout these are hosts whose agents have not followed yet, or whose endpoints do not fit
// into the former record.
func (c EndpointRecords) WithParts(ctx context.Context) ([]string, error) {
	entries, err := c.kv.List(ctx, HeadsPrefix)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, e := range entries {
		hosts = append(hosts, Last(e.Key))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

// formerForGone writes the endpoints of hosts whose agents are not up in the form of the first
// layout, which is the cluster's now: agents of before that replace others know no other form.
// Agents that are up do it themselves.
func (c *core) formerForGone(ctx context.Context) error {
	entries, err := c.kv.List(ctx, HeadsPrefix)
	if err != nil || len(entries) == 0 {
		return err
	}
	members, err := c.hosts().Hosts(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		network, _, _ := strings.Cut(strings.TrimPrefix(e.Key, HeadsPrefix), "/")
		host := Last(e.Key)
		if members.Alive[host] || host == c.host || HeadKey(network, host) != e.Key {
			continue
		}
		err := NewCluster(c.kv, host).formerAgain(ctx, network)
		if err != nil && !errors.Is(err, errAlive) && !errors.Is(err, ErrNotFound) {
			errs = append(errs, fmt.Errorf("endpoints of host %s on network %s: %w", host, network, err))
		}
	}
	return errors.Join(errs...)
}

// formerAgain is publish of what is published, as long as the host's agent is not up.
func (c *core) formerAgain(ctx context.Context, network string) error {
	have, err := c.endpoints().Published(ctx, network)
	if err != nil {
		return err
	}
	all := have.Endpoints()
	if len(all) == 0 {
		return nil
	}
	_, err = c.publish(ctx, network, have, Whole(all), func(ctx context.Context) ([]Op, error) {
		alive, err := c.hosts().Alive(ctx)
		if err == nil && alive {
			err = errAlive
		}
		return notAlive(c.host), err
	})
	return err
}
