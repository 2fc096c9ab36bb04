package hostlink

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// LinkEvent is what happened to a link of ours.
type LinkEvent struct {
	// Link is as it is now, or was when it went; its Kind is not told.
	Link Link
	// Gone says that it is no link of ours any more: it was deleted, left this namespace, or lost its alias.
	Gone bool
	// Addr says that it got an address.
	Addr bool
}

// LinkNews is what happened to links of ours since it was last taken.
type LinkNews struct {
	// All says that messages were missed, or none were read yet: Owned tells what is.
	All bool
	// Links are the links to which something happened, by index, each once with what happened last.
	Links []LinkEvent
}

// linkNews gathers what happens.
type linkNews struct {
	mu     sync.Mutex
	all    bool
	events map[int]LinkEvent
}

func (n *linkNews) note(e LinkEvent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.events == nil {
		n.events = map[int]LinkEvent{}
	}
	e.Addr = e.Addr || n.events[e.Link.Index].Addr
	n.events[e.Link.Index] = e
}

func (n *linkNews) missed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = true
}

func (n *linkNews) take() LinkNews {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := LinkNews{All: n.all}
	for _, index := range slices.Sorted(maps.Keys(n.events)) {
		out.Links = append(out.Links, n.events[index])
	}
	n.all, n.events = false, nil
	return out
}

// Watch signals that links of ours appeared, changed or went, or got an address, by anybody's hand; what they are now say Owned
// and Strays. Signals that nobody has taken yet become one. The channel is closed when the context ends, and not before: a
// subscription that fails is made again.
func (l *Links) Watch(ctx context.Context) (<-chan struct{}, error) {
	changed, _, err := l.WatchLinks(ctx)
	return changed, err
}

// WatchLinks is Watch with a function that takes what happened, each link's news gathered until then. It may be called at
// any time, by one goroutine. The first says All.
func (l *Links) WatchLinks(ctx context.Context) (<-chan struct{}, func() LinkNews, error) {
	// Links that are ours are known by index, so that one that loses its alias is noticed.
	known := map[int32]Link{}
	var news linkNews
	changed, err := l.follow(ctx, feed{
		groups: []uint{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR},
		begin: func(ctx context.Context) error {
			owned, err := l.Owned(ctx)
			if err != nil {
				return err
			}
			clear(known)
			for _, link := range owned {
				link.Kind = "" // a message need not tell it
				known[int32(link.Index)] = link
			}
			news.missed()
			return nil
		},
		tells: func(m syscall.NetlinkMessage) bool {
			e, told := concerns(m, known)
			if told {
				news.note(e)
			}
			return told
		},
	})
	if err != nil {
		return nil, nil, fmt.Errorf("watch links: %w", err)
	}
	return changed, news.take, nil
}

// concerns says whether a message tells something new about a link of ours, and keeps track of what is known.
// The kernel also reports requests that changed nothing; who mends on every signal would never rest.
func concerns(m syscall.NetlinkMessage, known map[int32]Link) (e LinkEvent, tells bool) {
	if m.Header.Type == unix.RTM_NEWADDR && len(m.Data) >= unix.SizeofIfAddrmsg {
		link, ours := known[int32(nl.DeserializeIfAddrmsg(m.Data).Index)]
		return LinkEvent{Link: link, Addr: true}, ours
	}
	if m.Header.Type != unix.RTM_NEWLINK && m.Header.Type != unix.RTM_DELLINK || len(m.Data) < unix.SizeofIfInfomsg {
		return e, false
	}
	info := nl.DeserializeIfInfomsg(m.Data)
	if info.Family != unix.AF_UNSPEC {
		return e, false // A bridge's message about its port: it carries no alias.
	}
	was, watched := known[info.Index]
	now := Link{Index: int(info.Index), Up: info.Flags&unix.IFF_UP != 0}
	whole := attributes(m.Data[unix.SizeofIfInfomsg:], func(kind uint16, value []byte) {
		switch kind {
		case unix.IFLA_IFNAME:
			now.Name = unix.ByteSliceToString(value)
		case unix.IFLA_IFALIAS:
			now.Alias = unix.ByteSliceToString(value)
		case unix.IFLA_MTU:
			if len(value) == 4 {
				now.MTU = int(nl.NativeEndian().Uint32(value))
			}
		}
	})
	if !whole {
		return LinkEvent{Link: was}, watched
	}
	if m.Header.Type == unix.RTM_DELLINK || !strings.HasPrefix(now.Alias, OwnerPrefix) {
		delete(known, info.Index)
		return LinkEvent{Link: was, Gone: true}, watched
	}
	known[info.Index] = now
	return LinkEvent{Link: now}, !watched || was != now
}

// attributes calls each for the attributes of a message, and says whether all could be read. The kernel tells some sixty of a link, and tells of
// links some ten times for each container: a list of them all would cost more than what is looked for.
func attributes(b []byte, each func(kind uint16, value []byte)) (whole bool) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(nl.NativeEndian().Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return false
		}
		each(nl.NativeEndian().Uint16(b[2:]), b[unix.SizeofRtAttr:size])
		b = b[min(len(b), (size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return true
}
