package hostlink

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dumpAttempts is how often an interrupted dump is repeated. The kernel interrupts one when a link changed
// under it; on a host that starts many containers at once several in a row are usual.
const dumpAttempts = 20

// retry runs a dump until the kernel gave a consistent answer. An interrupted dump may lack links that exist,
// and whoever takes it for the truth removes what others use; so it is an error in the end, never a result.
func retry[T any](ctx context.Context, what string, dump func() (T, error)) (T, error) {
	var zero T
	var err error
	for range dumpAttempts {
		if ctxErr := ctx.Err(); ctxErr != nil {
			return zero, fmt.Errorf("%s: %w", what, ctxErr)
		}
		var got T
		if got, err = dump(); err == nil {
			return got, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return zero, fmt.Errorf("%s: %w", what, err)
}

// list is retry of a dump, which it counts.
func list[T any](ctx context.Context, l *Links, what string, dump func() (T, error)) (T, error) {
	return retry(ctx, what, func() (T, error) {
		l.counts.dumps.Add(1)
		return dump()
	})
}

// find gives the link of that name, or nil when there is none.
func (l *Links) find(ctx context.Context, name string) (netlink.Link, error) {
	l.counts.read.Add(1)
	link, err := retry(ctx, "look up link "+name, func() (netlink.Link, error) { return l.handle.LinkByName(name) })
	return orNil(link, err)
}

// findIndex gives the link of that index, or nil when there is none.
func (l *Links) findIndex(ctx context.Context, index int) (netlink.Link, error) {
	l.counts.read.Add(1)
	link, err := retry(ctx, fmt.Sprintf("look up link %d", index), func() (netlink.Link, error) {
		return l.handle.LinkByIndex(index)
	})
	return orNil(link, err)
}

func orNil(link netlink.Link, err error) (netlink.Link, error) {
	if missing := (netlink.LinkNotFoundError{}); errors.As(err, &missing) {
		return nil, nil
	}
	return link, err
}

func (l *Links) links(ctx context.Context) ([]netlink.Link, error) {
	all, err := list(ctx, l, "list links", l.handle.LinkList)
	l.counts.read.Add(uint64(len(all)))
	return all, err
}

func (l *Links) routes(ctx context.Context, family int) ([]netlink.Route, error) {
	return list(ctx, l, "list routes", func() ([]netlink.Route, error) { return l.handle.RouteList(nil, family) })
}

func (l *Links) addrs(ctx context.Context) ([]netlink.Addr, error) {
	return list(ctx, l, "list addresses", func() ([]netlink.Addr, error) {
		return l.handle.AddrList(nil, netlink.FAMILY_ALL)
	})
}
