package hostlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// Link is a link of ours, as the kernel reports it.
type Link struct {
	Name string
	// Alias is the link's identity; it begins with OwnerPrefix. It is empty for a link whose maker died before it could set it.
	Alias string
	// Kind is the kernel's word: veth, vxlan.
	Kind  string
	Index int
	MTU   int
	Up    bool
}

// Owned lists every link of this namespace that is ours: by its alias, or by the mark of one that was never finished.
func (l *Links) Owned(ctx context.Context) ([]Link, error) {
	all, err := l.links(ctx)
	if err != nil {
		return nil, err
	}
	var owned []Link
	for _, link := range all {
		a := link.Attrs()
		if !ours(link) {
			continue
		}
		owned = append(owned, Link{
			Name: a.Name, Alias: a.Alias, Kind: link.Type(), Index: a.Index, MTU: a.MTU, Up: a.Flags&net.FlagUp != 0,
		})
	}
	return owned, nil
}

// DeleteLink removes a link of ours, and a veth's other end with it, wherever that is. An absent link is fine.
// The error wraps ErrForeign when the link is not ours.
func (l *Links) DeleteLink(ctx context.Context, name string) error {
	l.devices.note(name, 0)
	link, err := l.find(ctx, name)
	if err != nil || link == nil {
		return err
	}
	if !ours(link) {
		return foreign(link, "will not be deleted")
	}
	crashpoint.Hit("link: delete")
	if err := l.handle.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// madeMark is the group number of the links that we make. The kernel takes no alias in the request that makes a link, but a group: so a link whose
// maker died between the two is told from other programs' links, whatever its name. Nothing else uses the group.
const madeMark = 0x53500001 // as the flows' cookies begin

// ours says whether a link is ours to mend and delete. Its name says nothing: others have such names too.
func ours(link netlink.Link) bool {
	a, kind := link.Attrs(), link.Type()
	return (kind == "veth" || kind == "vxlan") && (owns(a) || a.Alias == "" && a.Group == madeMark)
}

func owns(a *netlink.LinkAttrs) bool { return strings.HasPrefix(a.Alias, OwnerPrefix) }

func foreign(link netlink.Link, what string) error {
	a := link.Attrs()
	return fmt.Errorf("%w: %s (kind %s, alias %q) %s: rename or remove it by hand if nothing needs it",
		ErrForeign, a.Name, link.Type(), a.Alias, what)
}

// checkOwner tells whether an existing link may be mended into one with this kind and alias.
func checkOwner(link netlink.Link, kind, alias string) error {
	a := link.Attrs()
	switch {
	case link.Type() != kind, !ours(link):
		return foreign(link, "has the name of the "+kind+" link "+alias)
	case a.Alias != "" && a.Alias != alias:
		return &DiffersError{Link: a.Name, Attribute: "alias", Have: a.Alias, Want: alias}
	}
	return nil
}

// mend sets alias and MTU where they differ. The alias comes first: it makes the link ours, whatever fails next.
func (l *Links) mend(link netlink.Link, alias string, mtu int) error {
	a := link.Attrs()
	if alias != "" && a.Alias != alias {
		crashpoint.Hit("link: alias")
		if err := l.handle.LinkSetAlias(link, alias); err != nil {
			return fmt.Errorf("set the alias of link %s to %s: %w", a.Name, alias, err)
		}
	}
	if mtu != 0 && a.MTU != mtu {
		crashpoint.Hit("link: MTU")
		if err := l.handle.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set the MTU of link %s to %d: %w", a.Name, mtu, err)
		}
	}
	return nil
}

// Has says whether there is a link of this name, or that can't be told.
func (l *Links) Has(ctx context.Context, name string) bool {
	link, err := l.find(ctx, name)
	return link != nil || err != nil
}

func (l *Links) up(link netlink.Link) error {
	if link.Attrs().Flags&net.FlagUp != 0 {
		return nil
	}
	crashpoint.Hit("link: up")
	if err := l.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", link.Attrs().Name, err)
	}
	return nil
}

// checkWanted refuses what the kernel would refuse with an errno that says nothing.
func checkWanted(name, alias string, mtu int) error {
	switch {
	case name == "" || len(name) >= unix.IFNAMSIZ || strings.ContainsAny(name, "/ :%") || name == "." || name == "..":
		return fmt.Errorf("%q is no name for a link: 1 to 15 characters, use LinkName", name)
	case !strings.HasPrefix(alias, OwnerPrefix) || len(alias) >= maxAlias:
		return fmt.Errorf("link %s: alias %q must begin with %s and be shorter than %d", name, alias, OwnerPrefix, maxAlias)
	case mtu != 0 && (mtu < minMTU || mtu > maxMTU):
		return fmt.Errorf("link %s: MTU %d is outside %d to %d", name, mtu, minMTU, maxMTU)
	}
	return nil
}

const (
	// maxAlias is IFALIASZ of linux/if.h, with the zero at its end.
	maxAlias = 256
	// minMTU is the least that IPv4 works with (RFC 791), maxMTU the most that a veth takes (ETH_MAX_MTU).
	minMTU, maxMTU = 68, 65535
)
