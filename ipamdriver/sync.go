package ipamdriver

import (
	"context"
	"errors"
	"net/netip"

	"github.com/socketplane/socketplane/store"
)

// Sync makes the cluster's claims equal to this host's journal: releases that
// did not get through are repeated, claims that no journal knows (a crash
// between claim and journal) are given back, and claims that the cluster has lost are
// made again. It can be called at any time; what it can't do now it returns as an error.
func (d *Driver) Sync(ctx context.Context) error {
	d.running.Lock()
	defer d.running.Unlock()
	journal, err := d.readJournal(ctx)
	if err != nil {
		return err
	}
	pools, err := d.cluster.Pools(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range pools {
		errs = append(errs, d.syncPool(ctx, p, journal[p.CIDR]))
		delete(journal, p.CIDR)
	}
	// What is left belongs to pools that the cluster does not have.
	for _, gone := range journal {
		for _, a := range gone {
			if a.Returning {
				errs = append(errs, d.giveBack(ctx, a))
			} else {
				d.log.Error("address of a subnet that the cluster has lost", "addr", a.Addr, "pool", a.Pool)
			}
		}
	}
	return errors.Join(append(errs, d.syncHolds(ctx))...)
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

func (d *Driver) syncPool(ctx context.Context, pool store.Pool, journal map[netip.Addr]address) error {
	blocks, err := d.cluster.Blocks(ctx, pool.CIDR)
	if err != nil {
		return err
	}
	claimed := map[netip.Addr]string{}
	var leaked []netip.Addr
	for _, b := range blocks {
		for addr, c := range b.Claims {
			claimed[addr] = c.Owner
			if _, known := journal[addr]; !known && c.Owner == d.cluster.Host() {
				leaked = append(leaked, addr)
			}
		}
	}
	var errs []error
	if len(leaked) > 0 {
		d.log.Info("giving back addresses that no container has", "pool", pool.CIDR, "addrs", leaked)
		errs = append(errs, d.cluster.Unclaim(ctx, pool.CIDR, d.cluster.Host(), leaked...))
	}
	for addr, a := range journal {
		switch {
		case a.Returning:
			errs = append(errs, d.giveBack(ctx, a))
		case claimed[addr] == "":
			d.log.Warn("claiming an address again that the cluster had lost", "pool", pool.CIDR, "addr", addr)
			errs = append(errs, d.cluster.Claim(ctx, pool.CIDR, addr, d.cluster.Host()))
		case claimed[addr] != d.cluster.Host():
			d.log.Error("a container of this host has an address that belongs to somebody else: restart the container",
				"pool", pool.CIDR, "addr", addr, "owner", d.cluster.OwnerName(ctx, claimed[addr]))
		}
	}
	return errors.Join(errs...)
}

// syncHolds repeats releases of pools, and renews holds that the cluster has lost.
func (d *Driver) syncHolds(ctx context.Context) error {
	held, err := d.readHolds(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, h := range held {
		if h.Returning {
			errs = append(errs, d.returnPool(ctx, h))
			continue
		}
		_, err := d.cluster.AcquirePool(ctx, h.CIDR)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
