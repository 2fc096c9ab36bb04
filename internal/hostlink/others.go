package hostlink

import (
	"context"
	"strings"

	"github.com/vishvananda/netlink"
)

// OtherVXLAN is a VXLAN device of another program.
type OtherVXLAN struct {
	Name string
	// FlowBased devices take all VNIs of their port, and share it with no others.
	FlowBased bool
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
			found = append(found, OtherVXLAN{Name: dev.Name, FlowBased: dev.FlowBased})
		}
	}
	return found, nil
}
