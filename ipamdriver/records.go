package ipamdriver

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/socketplane/socketplane/internal/ipalloc"
	"github.com/socketplane/socketplane/store"
)

// address is the journal's record of one address that this host has claimed, and does not keep as it came.
type address struct {
	Schema int `json:"schema"`
	// Pool and Addr are in its key.
	Pool netip.Prefix `json:"-"`
	Addr netip.Addr   `json:"-"`
	holder
	// State is one of the words below.
	State string `json:"state,omitempty"`
	// Since is when it came into that state, in milliseconds since 1970.
	Since int64 `json:"since"`
}

// holder says who has an address that is handed out.
type holder struct {
	MAC string `json:"mac,omitempty"`
	// Static is set when it was asked for by name.
	Static bool `json:"static,omitempty"`
}

// States of an address in the journal.
const (
	stateHeld    = "" // handed out
	stateResting = "resting"
	stateSpare   = "spare"
)

func (a *address) op() store.Op {
	return store.Op{Kind: store.OpPut, Key: store.LocalAddressKey(a.Pool, a.Addr), Value: store.Encode(a)}
}

// readAddress is op's opposite.
func readAddress(e store.Entry) (address, error) {
	a, err := store.Decode[address](e)
	if err == nil {
		a.Pool, a.Addr, err = store.ParseLocalAddressKey(e.Key)
	}
	return a, err
}

func (a address) state() ipalloc.State {
	switch a.State {
	case stateResting:
		return ipalloc.Resting
	case stateSpare:
		return ipalloc.Spare
	}
	return ipalloc.Held
}

// note writes the journal, in as many steps as it takes.
func (d *Driver) note(ctx context.Context, ops ...store.Op) error {
	if err := store.ApplyAll(ctx, d.journal, ops...); err != nil {
		return fmt.Errorf("this host's journal of addresses can't be written: %w", err)
	}
	return nil
}

// heldPool is the record of a pool that Docker holds through us on this host.
type heldPool struct {
	Schema    int          `json:"schema"`
	CIDR      netip.Prefix `json:"cidr"`
	Returning bool         `json:"returning,omitempty"`
}

// parsePoolID reads what RequestPool answered.
func parsePoolID(id string) (ipalloc.Pool, error) {
	p, err := ipalloc.Parse(id)
	if err != nil {
		return p, fmt.Errorf("%w: %w", ErrBadRequest, err)
	}
	return p, nil
}
