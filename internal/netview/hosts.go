package netview

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// followHosts keeps the hosts as the roster has them.
func (v *View) followHosts(ctx context.Context) {
	unreadable := retry.Trouble{Logger: v.log, Level: slog.LevelWarn, Text: "records of hosts can't be read; what was known of these hosts stays"}
	loop := v.newLoop("hosts can't be written to this host's disk; other hosts know them")
	changed := v.roster.Subscribe(ctx)
	for ctx.Err() == nil {
		if members, known := v.roster.Members(); known {
			unreadable.Note(errors.Join(slices.Collect(maps.Values(members.Unreadable))...))
			if err := v.setHosts(ctx, v.keepKnown(members)); err != nil {
				loop.Fails(ctx, err)
				continue
			}
			loop.Works()
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// keepKnown are the hosts of the cluster, with what was known of those whose records can't be read any more: their containers are where they were.
func (v *View) keepKnown(members store.Membership) map[string]store.Host {
	hosts := maps.Clone(members.Hosts) // the roster's others share it
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range members.Unreadable {
		if h, known := v.hosts[id]; known {
			hosts[id] = h
		}
	}
	return hosts
}

// setHosts takes the hosts over, in a map that nothing else has. Consumers hear of a host that is reached in another way only in networks where it has endpoints.
func (v *View) setHosts(ctx context.Context, hosts map[string]store.Host) error {
	if h, known := hosts[v.cluster.Host()]; known {
		v.own(h)
	}
	delete(hosts, v.cluster.Host())
	set, gone := map[string]copied{}, []string{}
	v.mu.Lock()
	old, read, mtu := v.hosts, v.read, v.mtu
	v.hosts, v.read, v.mtu = hosts, nil, carried(hosts)
	for id, h := range hosts {
		if had, known := old[id]; !known || had.VTEP != h.VTEP {
			v.touch(id)
		}
		set[store.LocalHostsKey(id)] = copyOfHost(h)
	}
	for id := range old {
		if _, there := hosts[id]; !there {
			v.touch(id)
		}
	}
	other := mtu != v.mtu
	v.mu.Unlock()
	if read != nil {
		defer close(read)
	}
	if other {
		select {
		case v.carries <- struct{}{}:
		default: // it is known already
		}
	}
	for _, key := range v.storedHosts.keys(func(key string) bool { return set[key].record == nil }) {
		gone = append(gone, key)
	}
	return v.storedHosts.update(ctx, set, gone, func() bool { return true })
}

// touch tells the consumers of networks where the host has endpoints; mu is held.
func (v *View) touch(host string) {
	for _, t := range v.tables {
		if t.peers[host] == nil {
			continue
		}
		for s := range t.streams {
			s.touch(host)
		}
	}
}

// carried is the largest MTU of containers that all hosts carry, in bytes, as far as they have told; 0 if none has. Hosts whose address is of the other IP family count, too,
// though no tunnel leads there: all hosts agree on one MTU, and while a cluster moves from IPv4 to IPv6, host by host, new containers already have what is right in the end.
func carried(hosts map[string]store.Host) (mtu int) {
	for _, h := range hosts {
		if h.MTU <= 0 {
			continue
		}
		if m := dataplane.ContainerMTU(h.MTU, h.VTEP); mtu == 0 || m < mtu {
			mtu = m
		}
	}
	return mtu
}

// Carried is the MTU of containers that all other hosts carry, in bytes; 0 while none has told.
func (v *View) Carried() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mtu
}

// Carries gets a value when Carried has changed.
func (v *View) Carries() <-chan struct{} { return v.carries }

// Hosts are the other hosts, by id. Nobody may change the map.
func (v *View) Hosts() map[string]store.Host {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.hosts
}

// HostName is what to call a host in a message.
func (v *View) HostName(id string) string { return cmp.Or(v.Hosts()[id].Name, id) }

// HostsRead is closed when the other hosts' records have been read; nil when they were before, or the view does not run.
func (v *View) HostsRead() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.read
}
