package hostlink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// maxVNI is the greatest VXLAN network identifier, 24 bits (RFC 7348).
const maxVNI = 1<<24 - 1

// VXLAN is a kernel VXLAN device of one network, which learns nothing: SyncFDB says where frames go.
type VXLAN struct {
	Name string
	VNI  uint32
	// Local is the source address of the tunnels; its family is that of all of them.
	Local netip.Addr
	// Port is the UDP port, of this host and of the others.
	Port uint16
	// MTU of what is carried, in bytes; 0 leaves the kernel's.
	MTU int
	// Alias is the identity; it begins with OwnerPrefix.
	Alias string
	// UnderlayDev binds the tunnels to that interface, and the device dies with it; "" lets routes decide.
	UnderlayDev string
}

// EnsureVXLAN makes the device or mends its alias and MTU, and sets it up. Outer UDP checksums are computed, over
// IPv4 too: that is the kernel's default, costs little by local checksum offload, and lets receivers coalesce.
//
// Errors wrap ErrDiffers (*DiffersError) when a device of ours has other unchangeable attributes, ErrForeign when
// the name is another's, and ErrVNITaken, naming the device that has this VNI and port.
func (l *Links) EnsureVXLAN(ctx context.Context, v VXLAN) error {
	if err := v.check(); err != nil {
		return err
	}
	underlay, err := l.underlayIndex(ctx, v.UnderlayDev)
	if err != nil {
		return err
	}
	link, err := l.find(ctx, v.Name)
	if err != nil {
		return err
	}
	if link == nil {
		link, err = l.addVXLAN(ctx, v, underlay)
	} else {
		err = checkOwner(link, "vxlan", v.Alias)
	}
	if err != nil {
		return err
	}
	if err := v.compare(link, underlay); err != nil {
		return err
	}
	if err := l.mend(link, v.Alias, v.MTU); err != nil {
		return err
	}
	if err := l.quiet(link); err != nil {
		return err
	}
	err = l.up(link)
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w: UDP port %d is used by %s: stop that, or give SocketPlane another tunnel port on all hosts",
			err, v.Port, l.portUsers(ctx, v))
	}
	return err
}

func (v VXLAN) check() error {
	if err := checkWanted(v.Name, v.Alias, v.MTU); err != nil {
		return err
	}
	switch {
	case v.VNI == 0 || v.VNI > maxVNI:
		return fmt.Errorf("link %s: VNI %d is outside 1 to %d", v.Name, v.VNI, maxVNI)
	case !v.Local.IsValid() || v.Local.IsUnspecified() || v.Local.IsMulticast():
		return fmt.Errorf("link %s: %q can't be the source address of tunnels", v.Name, v.Local)
	case v.Port == 0:
		return fmt.Errorf("link %s: needs a UDP port", v.Name)
	}
	return nil
}

func (l *Links) underlayIndex(ctx context.Context, name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	dev, err := l.find(ctx, name)
	if err != nil {
		return 0, err
	}
	if dev == nil {
		return 0, fmt.Errorf("%w: underlay interface %s", ErrNoLink, name)
	}
	return dev.Attrs().Index, nil
}

func (l *Links) addVXLAN(ctx context.Context, v VXLAN, underlay int) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Group = v.Name, v.MTU, madeMark
	crashpoint.Hit("link: add a VXLAN device")
	err := l.handle.LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: int(v.VNI), SrcAddr: v.Local.Unmap().AsSlice(), Port: int(v.Port),
		VtepDevIndex: underlay, Learning: false,
	})
	if errors.Is(err, unix.EEXIST) {
		return nil, l.vniTaken(ctx, v)
	}
	if err != nil {
		return nil, fmt.Errorf("make VXLAN device %s (VNI %d, from %s): %w", v.Name, v.VNI, v.Local, err)
	}
	link, err := l.find(ctx, v.Name)
	if err == nil && link == nil {
		err = fmt.Errorf("%w: %s went away while it was made", ErrNoLink, v.Name)
	}
	return link, err
}

// compare finds the first attribute that the kernel can't change, or only with a loss.
func (v VXLAN) compare(link netlink.Link, underlay int) error {
	dev, ok := link.(*netlink.Vxlan)
	if !ok {
		return foreign(link, "is no VXLAN device")
	}
	local, _ := netip.AddrFromSlice(dev.SrcAddr)
	for _, c := range []struct {
		attribute  string
		have, want any
	}{
		{"VNI", dev.VxlanId, int(v.VNI)},
		{"local address", local.Unmap(), v.Local.Unmap()},
		{"UDP port", dev.Port, int(v.Port)},
		{"underlay interface index", dev.VtepDevIndex, underlay},
		{"learning", dev.Learning, false},
		{"flow based", dev.FlowBased, false},
	} {
		if c.have != c.want {
			return &DiffersError{Link: v.Name, Attribute: c.attribute, Have: c.have, Want: c.want}
		}
	}
	return nil
}

func (l *Links) vniTaken(ctx context.Context, v VXLAN) error {
	for _, other := range l.vxlans(ctx, v.Port) {
		if other.VxlanId == int(v.VNI) {
			return fmt.Errorf("%w: VNI %d on UDP port %d is received by link %s (alias %q): remove that link, or use another VNI or port",
				ErrVNITaken, v.VNI, v.Port, other.Name, other.Alias)
		}
	}
	return fmt.Errorf("%w: VNI %d on UDP port %d is received by a VXLAN device that was made here and moved to another "+
		"network namespace, as Docker Swarm's overlay networks are: remove that network, or use another VNI or port",
		ErrVNITaken, v.VNI, v.Port)
}

func (l *Links) portUsers(ctx context.Context, v VXLAN) string {
	var names []string
	for _, other := range l.vxlans(ctx, v.Port) {
		if other.Name != v.Name {
			names = append(names, "link "+other.Name)
		}
	}
	if names == nil {
		return fmt.Sprintf("a program or a device of another network namespace (see `ss -lunp sport = :%d`)", v.Port)
	}
	return strings.Join(names, ", ")
}

// vxlans lists the VXLAN devices on a port, for the text of an error: a failure to list them is no news.
func (l *Links) vxlans(ctx context.Context, port uint16) []*netlink.Vxlan {
	all, err := l.links(ctx)
	if err != nil {
		l.log.Debug("VXLAN devices can't be listed", "error", err)
	}
	var found []*netlink.Vxlan
	for _, link := range all {
		if dev, ok := link.(*netlink.Vxlan); ok && dev.Port == int(port) {
			found = append(found, dev)
		}
	}
	return found
}
