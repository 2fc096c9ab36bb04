package ipamdriver

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/store"
)

// Sync makes the cluster's claims equal to this host's journal: releases that
// did not get through are repeated, pools and addresses that no journal knows (a crash
// between claim and journal) are given back, and those that the cluster has lost are
// claimed again. It can be called at any time; what it can't do now it returns as an error.
//
// What it has read is only a hint: it decides anew on each pool and address while nobody else works on it.
func (d *Driver) Sync(ctx context.Context) error {
	errs := []error{d.syncHolds(ctx)}
	journal, err := d.readJournal(ctx)
	if err != nil {
		return err
	}
	pools, err := d.cluster.Pools(ctx)
	if err != nil {
		return err
	}
	for _, p := range pools {
		errs = append(errs, d.syncPool(ctx, p.CIDR, journal[p.CIDR]))
		delete(journal, p.CIDR)
	}
	// What is left belongs to pools that the cluster does not have.
	for _, gone := range journal {
		for _, a := range gone {
			if a.Returning {
				errs = append(errs, d.syncAddress(ctx, a.Pool, a.Addr))
			} else {
				d.log.Error("a container has an address of a subnet that the cluster does not know", "addr", a.Addr, "pool", a.Pool)
			}
		}
	}
	return errors.Join(errs...)
}

// Pending says whether a release waits for the cluster.
func (d *Driver) Pending(ctx context.Context) (bool, error) {
	journal, err := d.readJournal(ctx)
	if err != nil {
		return false, err
	}
	for _, addrs := range journal {
		for _, a := range addrs {
			if a.Returning {
				return true, nil
			}
		}
	}
	held, err := d.readHolds(ctx)
	for _, h := range held {
		if h.Returning {
			return true, err
		}
	}
	return false, err
}

func (d *Driver) readJournal(ctx context.Context) (map[netip.Prefix]map[netip.Addr]address, error) {
	entries, err := d.local.List(ctx, store.LocalAddresses)
	if err != nil {
		return nil, err
	}
	journal := map[netip.Prefix]map[netip.Addr]address{}
	for _, e := range entries {
		a, err := store.Decode[address](e)
		if err != nil {
			return nil, err
		}
		if journal[a.Pool] == nil {
			journal[a.Pool] = map[netip.Addr]address{}
		}
		journal[a.Pool][a.Addr] = a
	}
	return journal, nil
}

func (d *Driver) readHolds(ctx context.Context) ([]heldPool, error) {
	entries, err := d.local.List(ctx, store.LocalPools)
	if err != nil {
		return nil, err
	}
	var held []heldPool
	for _, e := range entries {
		h, err := store.Decode[heldPool](e)
		if err != nil {
			return nil, err
		}
		held = append(held, h)
	}
	return held, nil
}

// syncPool compares a pool's claims with the journal.
func (d *Driver) syncPool(ctx context.Context, pool netip.Prefix, journal map[netip.Addr]address) error {
	blocks, err := d.cluster.Blocks(ctx, pool)
	if err != nil {
		return err
	}
	own := map[netip.Addr]bool{}
	for _, b := range blocks {
		for addr, c := range b.Claims {
			own[addr] = c.Owner == d.cluster.Host()
		}
	}
	var errs []error
	for addr, ours := range own {
		if _, known := journal[addr]; ours && !known {
			errs = append(errs, d.syncAddress(ctx, pool, addr))
		}
	}
	for addr, a := range journal {
		if a.Returning || !own[addr] {
			errs = append(errs, d.syncAddress(ctx, pool, addr))
		}
	}
	return errors.Join(errs...)
}

// syncAddress makes the claim of one address what the journal says.
func (d *Driver) syncAddress(ctx context.Context, pool netip.Prefix, addr netip.Addr) error {
	unlock, err := d.busy.lock(ctx, store.LocalAddressKey(pool, addr))
	if err != nil {
		return err
	}
	defer unlock()
	a, err := d.journalled(ctx, pool, addr)
	switch {
	case err != nil:
		return err
	case a == nil:
		d.log.Info("giving back an address that no container has", "pool", pool, "addr", addr)
		return d.cluster.Unclaim(ctx, pool, d.cluster.Host(), addr)
	case a.Returning:
		return d.giveBack(ctx, *a)
	}
	err = d.cluster.Keep(ctx, pool, addr)
	if errors.Is(err, store.ErrTaken) {
		// Nothing that is tried again would help.
		d.log.Error("a container of this host has an address that belongs to somebody else: restart the container",
			"pool", pool, "addr", addr, "err", err)
		return nil
	}
	return err
}

// syncHolds compares the pools that this host holds with the journal.
func (d *Driver) syncHolds(ctx context.Context) error {
	held, err := d.readHolds(ctx)
	if err != nil {
		return err
	}
	pools, err := d.cluster.Pools(ctx)
	if err != nil {
		return err
	}
	differ := map[netip.Prefix]bool{}
	for _, p := range pools {
		if slices.Contains(p.Hosts, d.cluster.Host()) {
			differ[p.CIDR] = true
		}
	}
	for _, h := range held {
		differ[h.CIDR] = h.Returning || !differ[h.CIDR]
	}
	var errs []error
	for cidr, differs := range differ {
		if differs {
			errs = append(errs, d.syncHold(ctx, cidr))
		}
	}
	return errors.Join(errs...)
}

// syncHold makes the hold of one pool what the journal says.
func (d *Driver) syncHold(ctx context.Context, cidr netip.Prefix) error {
	unlock, err := d.busy.lock(ctx, store.LocalPoolKey(cidr))
	if err != nil {
		return err
	}
	defer unlock()
	h, err := d.held(ctx, cidr)
	switch {
	case err != nil:
		return err
	case h == nil:
		d.log.Info("giving back a subnet that no network has", "pool", cidr)
		return d.cluster.ReleasePool(ctx, cidr)
	case h.Returning:
		return d.returnPool(ctx, *h)
	}
	_, err = d.cluster.AcquirePool(ctx, cidr)
	return err
}
