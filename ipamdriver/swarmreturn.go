package ipamdriver

import (
	"context"
	"errors"
	"net/netip"

	"github.com/socketplane/socketplane/store"
)

// swarmReturn is the record of what the manager on this host has given back: an address, or without one the pool. It stays until the cluster has
// taken it, as Docker never repeats a release.
type swarmReturn struct {
	Schema int          `json:"schema"`
	Pool   netip.Prefix `json:"pool"`
	Addr   netip.Addr   `json:"addr,omitzero"`
}

func (r swarmReturn) key() string { return store.LocalSwarmKey(r.Pool, r.Addr) }

// returnSwarm succeeds when the intention is on this host's disk; Sync finishes what the cluster could not take now.
func (d *Driver) returnSwarm(ctx context.Context, r swarmReturn) error {
	unlock, err := d.managed.lock(ctx, r.Pool)
	if err != nil {
		return err
	}
	defer unlock()
	if err := d.local.Apply(ctx, store.Op{Kind: store.OpPut, Key: r.key(), Value: store.Encode(r)}); err != nil {
		return err
	}
	if err := d.endSwarm(ctx, r); err != nil {
		d.log.Warn("what Swarm has released stays claimed until the store answers", "pool", r.Pool, "addr", r.Addr, "err", err)
	}
	return nil
}

// endSwarm gives back what is recorded, and removes the record. The caller has the pool's lock.
func (d *Driver) endSwarm(ctx context.Context, r swarmReturn) error {
	soon, cancel := context.WithTimeout(ctx, returnSoon)
	defer cancel()
	var err error
	if r.Addr.IsValid() {
		err = d.cluster.UnclaimManaged(soon, r.Pool, d.cluster.Host(), r.Addr)
	} else {
		err = d.cluster.LeaveManaged(soon, r.Pool, d.cluster.Host())
	}
	if err != nil {
		return err
	}
	return d.local.Apply(ctx, store.Op{Kind: store.OpRemove, Key: r.key()})
}

// forgetReturn removes a record that there may be. The caller has the pool's lock.
func (d *Driver) forgetReturn(ctx context.Context, r swarmReturn) error {
	if _, err := d.local.Get(ctx, r.key()); errors.Is(err, store.ErrNotFound) {
		return nil // no write to the disk, then
	} else if err != nil {
		return err
	}
	return d.local.Apply(ctx, store.Op{Kind: store.OpRemove, Key: r.key()})
}

func (d *Driver) readReturns(ctx context.Context) ([]swarmReturn, error) {
	entries, err := d.local.List(ctx, store.LocalSwarm)
	if err != nil {
		return nil, err
	}
	var all []swarmReturn
	for _, e := range entries {
		r, err := store.Decode[swarmReturn](e)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// syncSwarm gives back what the cluster could not take when Swarm released it.
func (d *Driver) syncSwarm(ctx context.Context) error {
	all, err := d.readReturns(ctx)
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := d.syncReturn(ctx, r); err != nil {
			return err // the next one would wait for the same store
		}
	}
	return nil
}

func (d *Driver) syncReturn(ctx context.Context, r swarmReturn) error {
	unlock, err := d.managed.lock(ctx, r.Pool)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := d.local.Get(ctx, r.key()); errors.Is(err, store.ErrNotFound) {
		return nil // it is wanted again meanwhile
	} else if err != nil {
		return err
	}
	return d.endSwarm(ctx, r)
}
