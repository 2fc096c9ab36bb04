package lab

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// buildUnderlay makes the namespace with the bridge that all hosts are plugged into. It is the router of the hosts'
// default route, too, and behind it is the outside.
func (l *Lab) buildUnderlay(ctx context.Context) error {
	und := l.netns("und")
	if _, err := run(ctx, "ip", "netns", "add", und); err != nil {
		return err
	}
	lines := []string{
		"link set lo up",
		// Snooping would drop the multicast of mDNS until a querier is there.
		"link add und type bridge mcast_snooping 0",
		fmt.Sprintf("link set und mtu %d up", l.opts.MTU),
		fmt.Sprintf("addr add %s/16 dev und", routerAddr),
		fmt.Sprintf("addr add %s/64 dev und nodad", routerAddr6),
		fmt.Sprintf("addr add %s/32 dev lo", outsideAddr),
		fmt.Sprintf("addr add %s/128 dev lo nodad", outsideAddr6),
	}
	for i := range l.opts.Servers {
		lines = append(lines, fmt.Sprintf("addr add %s/16 dev und", consulAddr(i)))
	}
	err := ipBatch(ctx, und, lines...)
	if err != nil {
		return err
	}
	if l.opts.Tunnel == TunnelOVS {
		// Open vSwitch without user-space segmentation takes packets as they are: they need their checksums.
		_, err = run(ctx, "nsenter", "--net=/run/netns/"+und, "ethtool", "-K", "und", "tx", "off")
	}
	return err
}

// plug gives a host its network namespace and NIC.
func (h *Host) plug(ctx context.Context) error {
	ns, und := h.lab.netns(h.Name), h.lab.netns("und")
	if _, err := run(ctx, "ip", "netns", "add", ns); err != nil {
		return err
	}
	err := ipBatch(ctx, und,
		fmt.Sprintf("link add %s mtu %d type veth peer name eth0 mtu %d netns %s", h.Name, h.lab.opts.MTU, h.lab.opts.MTU, ns),
		fmt.Sprintf("link set %s master und up", h.Name),
	)
	if err != nil {
		return err
	}
	return ipBatch(ctx, ns, "link set lo up", "link set eth0 up")
}

// AddNIC plugs another NIC of the host into the underlay. It is up and has no address.
func (h *Host) AddNIC(ctx context.Context, dev string, mtu int) error {
	ns, port := h.lab.netns(h.Name), h.Name+"-"+dev
	err := ipBatch(ctx, h.lab.netns("und"),
		fmt.Sprintf("link add %s mtu %d type veth peer name %s mtu %d netns %s", port, h.lab.opts.MTU, dev, mtu, ns),
		fmt.Sprintf("link set %s master und up", port),
	)
	if err != nil {
		return err
	}
	return ipBatch(ctx, ns, "link set "+dev+" up")
}

// IP runs commands of ip in the host, one after the other.
func (h *Host) IP(ctx context.Context, commands ...string) error {
	return ipBatch(ctx, h.lab.netns(h.Name), commands...)
}

// address gives the host's addresses and default routes to a device: eth0 or br-und.
func (h *Host) address(ctx context.Context, dev string) error {
	return ipBatch(ctx, h.lab.netns(h.Name),
		fmt.Sprintf("link set %s mtu %d up", dev, h.lab.opts.MTU),
		fmt.Sprintf("addr replace %s/16 dev %s", h.Addr, dev),
		fmt.Sprintf("addr replace %s/64 dev %s nodad", h.Addr6, dev),
		fmt.Sprintf("route replace default via %s dev %s", routerAddr, dev),
		fmt.Sprintf("route replace ::/0 via %s dev %s", routerAddr6, dev),
	)
}

// SetUplink takes the host's cable out of the underlay, or puts it back.
func (h *Host) SetUplink(ctx context.Context, up bool) error {
	word := "down"
	if up {
		word = "up"
	}
	return ipBatch(ctx, h.lab.netns("und"), "link set "+h.Name+" "+word)
}

// Partition lets hosts of different groups not reach each other in the underlay; hosts in none reach everybody. It replaces a former
// partition. Heal ends it.
func (l *Lab) Partition(ctx context.Context, groups ...[]*Host) error {
	rules := []string{"add table bridge lab", "delete table bridge lab", "add table bridge lab",
		"add chain bridge lab cut { type filter hook forward priority 0; }"}
	for i, from := range groups {
		for j, to := range groups {
			if i == j || len(from) == 0 || len(to) == 0 {
				continue
			}
			rules = append(rules, fmt.Sprintf("add rule bridge lab cut iifname { %s } oifname { %s } drop", nics(from), nics(to)))
		}
	}
	return l.nft(ctx, rules)
}

// Heal ends a partition.
func (l *Lab) Heal(ctx context.Context) error {
	return l.nft(ctx, []string{"add table bridge lab", "delete table bridge lab"})
}

func (l *Lab) nft(ctx context.Context, rules []string) error {
	_, err := runInput(ctx, strings.Join(rules, "\n")+"\n", nil, "nsenter", "--net=/run/netns/"+l.netns("und"), "nft", "-f", "-")
	if err != nil {
		return fmt.Errorf("partition of the underlay: %w", err)
	}
	return nil
}

// nics names the hosts' ends in the underlay.
func nics(hosts []*Host) string {
	var names []string
	for _, h := range hosts {
		names = append(names, strconv.Quote(h.Name))
	}
	return strings.Join(names, ", ")
}
