package hostlink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// FDBEntry says to which host a VXLAN device sends frames for a MAC. The zero MAC is for broadcast, multicast
// and whatever is unknown: such frames go to every host with such an entry.
type FDBEntry struct {
	MAC dataplane.MAC
	Dst netip.Addr
}

// flood says whether the kernel keeps several destinations for this MAC.
func (e FDBEntry) flood() bool { return e.MAC == dataplane.MAC{} || e.MAC[0]&1 != 0 }

// SyncFDB makes the forwarding entries of a VXLAN device of ours be exactly those, and tells how many were added
// (or pointed to another host) and removed. New ones come before old ones go, so that floods never stop, and a
// MAC that moves is pointed to its new host in one step. All entries that have a destination are ours; those
// that the kernel makes itself have none.
//
// Errors wrap ErrNoLink or ErrForeign; or they name the entries that failed, the others having been applied.
func (l *Links) SyncFDB(ctx context.Context, dev string, want []FDBEntry) (added, removed int, err error) {
	index, err := l.ownVXLAN(ctx, dev)
	if err != nil {
		return 0, 0, err
	}
	have, err := l.fdb(ctx, index)
	if err != nil {
		return 0, 0, err
	}
	add, del, err := diffFDB(have, want)
	if err != nil {
		return 0, 0, fmt.Errorf("forwarding entries of %s: %w", dev, err)
	}
	added, addErr := l.applyFDB(ctx, index, unix.RTM_NEWNEIGH, add)
	removed, delErr := l.applyFDB(ctx, index, unix.RTM_DELNEIGH, del)
	if err := errors.Join(addErr, delErr); err != nil {
		return added, removed, fmt.Errorf("forwarding entries of %s: %w", dev, err)
	}
	return added, removed, nil
}

// ChangeFDB adds forwarding entries to a VXLAN device of ours, or points their MACs to another host, and removes others. It
// neither lists nor touches the rest: its cost is that of the change. An entry of set that is there already, and one of gone that is not or leads
// elsewhere meanwhile, is no error. Entries come before others go, as in SyncFDB, whose errors it has.
func (l *Links) ChangeFDB(ctx context.Context, dev string, set, gone []FDBEntry) error {
	add, _, err := diffFDB(nil, set)
	if err == nil && len(add)+len(gone) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("forwarding entries of %s: %w", dev, err)
	}
	wanted := make(map[FDBEntry]bool, len(add))
	for _, e := range add {
		wanted[e] = true
	}
	del := make([]FDBEntry, 0, len(gone))
	for _, e := range gone {
		if e.Dst = e.Dst.Unmap(); !wanted[e] && e.Dst.IsValid() {
			del = append(del, e)
		}
	}
	index, known := l.devices.index(dev)
	if !known {
		if index, err = l.ownVXLAN(ctx, dev); err != nil {
			return err
		}
	}
	err = l.changeFDB(ctx, index, add, del)
	if known && errors.Is(err, unix.ENODEV) { // it was removed, and there may be another one of this name
		if index, err = l.ownVXLAN(ctx, dev); err != nil {
			return err
		}
		err = l.changeFDB(ctx, index, add, del)
	}
	if err != nil {
		return fmt.Errorf("forwarding entries of %s: %w", dev, err)
	}
	return nil
}

func (l *Links) changeFDB(ctx context.Context, index int, add, del []FDBEntry) error {
	_, addErr := l.applyFDB(ctx, index, unix.RTM_NEWNEIGH, add)
	_, delErr := l.applyFDB(ctx, index, unix.RTM_DELNEIGH, del)
	return errors.Join(addErr, delErr)
}

// devices remembers the indexes of VXLAN devices of ours, so that a change of one entry does not read its device. The kernel gives no index twice. It
// is safe for concurrent use.
type devices struct {
	mu  sync.Mutex
	all map[string]int // by name
}

func (d *devices) index(name string) (index int, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	index, known = d.all[name]
	return index, known
}

// note says which index the device of a name has, 0 if there is none.
func (d *devices) note(name string, index int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if index == 0 {
		delete(d.all, name)
		return
	}
	if d.all == nil {
		d.all = map[string]int{}
	}
	d.all[name] = index
}

// ownVXLAN is the index of a VXLAN device of ours.
func (l *Links) ownVXLAN(ctx context.Context, dev string) (int, error) {
	l.devices.note(dev, 0)
	link, err := l.find(ctx, dev)
	switch {
	case err != nil:
		return 0, err
	case link == nil:
		return 0, fmt.Errorf("%w: VXLAN device %s", ErrNoLink, dev)
	case link.Type() != "vxlan" || !owns(link.Attrs()):
		return 0, foreign(link, "keeps its forwarding entries")
	}
	l.devices.note(dev, link.Attrs().Index)
	return link.Attrs().Index, nil
}

// diffFDB gives what to add and what to delete. An entry that is not permanent counts as missing: have says so.
func diffFDB(have map[FDBEntry]bool, want []FDBEntry) (add, del []FDBEntry, err error) {
	wanted := make(map[FDBEntry]bool, len(want))
	unicast := make(map[dataplane.MAC]netip.Addr, len(want))
	for _, e := range want {
		e.Dst = e.Dst.Unmap()
		if !e.Dst.IsValid() || e.Dst.IsUnspecified() {
			return nil, nil, fmt.Errorf("MAC %s has no destination", e.MAC)
		}
		if other, ok := unicast[e.MAC]; ok && other != e.Dst {
			return nil, nil, fmt.Errorf("MAC %s is wanted at %s and at %s: one address is on two hosts", e.MAC, other, e.Dst)
		}
		if !e.flood() {
			unicast[e.MAC] = e.Dst
		}
		if !wanted[e] && !have[e] {
			add = append(add, e)
		}
		wanted[e] = true
	}
	for e := range have {
		// A unicast MAC with another destination is replaced by the entry that is added.
		if _, replaced := unicast[e.MAC]; !wanted[e] && !replaced {
			del = append(del, e)
		}
	}
	slices.SortFunc(del, func(a, b FDBEntry) int {
		return cmp.Or(slices.Compare(a.MAC[:], b.MAC[:]), a.Dst.Compare(b.Dst))
	})
	return add, del, nil
}

// FDB lists the forwarding entries of a device that have a destination, in no particular order. The error wraps ErrNoLink.
func (l *Links) FDB(ctx context.Context, dev string) ([]FDBEntry, error) {
	link, err := l.find(ctx, dev)
	if err != nil {
		return nil, err
	}
	if link == nil {
		return nil, fmt.Errorf("%w: VXLAN device %s", ErrNoLink, dev)
	}
	entries, err := l.fdb(ctx, link.Attrs().Index)
	return slices.Collect(maps.Keys(entries)), err
}

// fdb reads a device's entries with a destination; the value says whether the entry is permanent.
func (l *Links) fdb(ctx context.Context, index int) (map[FDBEntry]bool, error) {
	msgs, err := list(ctx, l, "list forwarding entries", func() ([][]byte, error) {
		req := l.request(unix.RTM_GETNEIGH, unix.NLM_F_DUMP)
		// The kernel filters by index if it is asked with this header, and not with the one of neighbours (ndmsg).
		msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
		msg.Index = int32(index)
		req.AddData(msg)
		return req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWNEIGH)
	})
	if err != nil {
		return nil, err
	}
	l.counts.entriesRead.Add(uint64(len(msgs)))
	entries := make(map[FDBEntry]bool, len(msgs))
	for _, m := range msgs {
		n, err := netlink.NeighDeserialize(m)
		if err != nil {
			return nil, fmt.Errorf("read a forwarding entry: %w", err)
		}
		dst, ok := netip.AddrFromSlice(n.IP)
		if n.LinkIndex != index || n.Flags&netlink.NTF_SELF == 0 || !ok || len(n.HardwareAddr) != 6 {
			continue
		}
		entries[FDBEntry{MAC: dataplane.MAC(n.HardwareAddr), Dst: dst.Unmap()}] = n.State&netlink.NUD_PERMANENT != 0
	}
	return entries, nil
}

func (l *Links) applyFDB(ctx context.Context, index int, kind uint16, entries []FDBEntry) (int, error) {
	l.counts.entries.Add(uint64(len(entries)))
	errnos, err := l.batch.run(ctx, len(entries), func(i int) *nl.NetlinkRequest {
		return fdbRequest(index, kind, entries[i])
	})
	failed := len(entries) - len(errnos)
	var errs []error
	for i, errno := range errnos {
		if errno == 0 || (kind == unix.RTM_DELNEIGH && errno == unix.ENOENT) {
			continue
		}
		failed++
		if len(errs) < 5 { // A thousand lines would hide the cause, which is the same.
			errs = append(errs, fmt.Errorf("%s by %s: %w", entries[i].MAC, entries[i].Dst, errno))
		}
	}
	if err != nil {
		errs = append(errs, err)
	}
	return len(entries) - failed, errors.Join(errs...)
}

func fdbRequest(index int, kind uint16, e FDBEntry) *nl.NetlinkRequest {
	req := &nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Type: kind, Flags: unix.NLM_F_REQUEST}}
	if kind == unix.RTM_NEWNEIGH {
		req.Flags |= unix.NLM_F_CREATE
		if e.flood() {
			req.Flags |= unix.NLM_F_APPEND
		} else {
			req.Flags |= unix.NLM_F_REPLACE
		}
	}
	req.AddData(&netlink.Ndmsg{
		Family: unix.AF_BRIDGE, Index: uint32(index),
		State: netlink.NUD_NOARP | netlink.NUD_PERMANENT, Flags: netlink.NTF_SELF,
	})
	req.AddData(nl.NewRtAttr(netlink.NDA_LLADDR, e.MAC[:]))
	req.AddData(nl.NewRtAttr(netlink.NDA_DST, e.Dst.AsSlice()))
	return req
}
