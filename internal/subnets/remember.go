package subnets

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/socketplane/socketplane/store"
)

// reservedRecord is what this host reserved last.
type reservedRecord struct {
	Schema  int            `json:"schema"`
	Subnets []netip.Prefix `json:"subnets"`
}

// reserve keeps Docker's allocator off these subnets, and remembers them for the next boot.
func (t *Tracker) reserve(ctx context.Context, subnets []netip.Prefix) error {
	if err := t.links.Reserve(ctx, subnets); err != nil {
		return err
	}
	now := store.Entry{Value: store.Encode(reservedRecord{Schema: store.Schema, Subnets: subnets})}
	before, err := t.opts.Local.Get(ctx, store.LocalReservedKey)
	if err == nil && string(before.Value) == string(now.Value) {
		return nil
	}
	if err == nil || errors.Is(err, store.ErrNotFound) {
		err = t.opts.Local.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.LocalReservedKey, Value: now.Value})
	}
	if err != nil {
		return fmt.Errorf("remember the reserved subnets: %w", err)
	}
	return nil
}

// restore reserves the subnets of before a reboot, which removed the routes. The cluster's store may not answer for a while, and Docker
// chooses subnets meanwhile. Without a reboot the routes are there, and are newer than what is remembered.
func (t *Tracker) restore(ctx context.Context) error {
	there, err := t.links.Reserved(ctx)
	if err != nil || there {
		return err
	}
	e, err := t.opts.Local.Get(ctx, store.LocalReservedKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	last, err := store.Decode[reservedRecord](e)
	if err != nil || len(last.Subnets) == 0 {
		return err
	}
	return t.links.Reserve(ctx, last.Subnets)
}
