package hostlink

import (
	"context"
	"strings"

	"github.com/vishvananda/netlink"
)

// OtherVXLAN is a VXLAN device of another program.
type OtherVXLAN struct {
	Name string
	// Exclusive devices share their port with none of ours: the kernel gives one socket to all devices that read packets in the same way, and
	// refuses others (vxlan_find_sock compares the flags VXLAN_F_RCV_FLAGS of vxlan.h).
	Exclusive bool
}

// switchVXLAN begins the names of the devices that Open vSwitch makes for its own tunnels.
const switchVXLAN = "vxlan_sys_"

// OtherVXLANs lists the VXLAN devices of this namespace on a UDP port that are neither ours nor Open vSwitch's.
func (l *Links) OtherVXLANs(ctx context.Context, port uint16) ([]OtherVXLAN, error) {
	all, err := l.links(ctx)
	if err != nil {
		return nil, err
	}
	var found []OtherVXLAN
	for _, link := range all {
		dev, ok := link.(*netlink.Vxlan)
		if ok && dev.Port == int(port) && !owns(link.Attrs()) && !strings.HasPrefix(dev.Name, switchVXLAN) {
			found = append(found, OtherVXLAN{Name: dev.Name, Exclusive: dev.FlowBased || dev.GBP || dev.UDP6ZeroCSumRx})
		}
	}
	return found, nil
}
