package hostlink

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/internal/dataplane"
)

// newVeth makes a pair with two requests, as a container waits for it: one makes it with all that the kernel takes then, the other one sets the rest and
// the host end up. The error wraps EEXIST, and nothing was changed, if one of the names is in use.
func (l *Links) newVeth(ctx context.Context, v Veth) error {
	crashpoint.Hit("link: add a pair")
	if err := l.send(ctx, pairRequest(v)); err != nil {
		return fmt.Errorf("make veth pair %s and %s: %w", v.Host, v.Peer, err)
	}
	if err := errors.Join(l.setTXChecksum(v.Host, v.TXChecksum), moved(l.setTXChecksum(v.Peer, v.TXChecksum))); err != nil {
		return err
	}
	l.withoutIPv6(v.Host) // before it is up
	crashpoint.Hit("link: settle a pair")
	err := l.send(ctx, settleRequest(v, true))
	if errors.Is(err, unix.EAFNOSUPPORT) { // the kernel has no IPv6, or not on a link with so small an MTU
		err = l.send(ctx, settleRequest(v, false))
	}
	if err != nil {
		return fmt.Errorf("set the alias of link %s to %s, IP off, and the link up: %w", v.Host, v.Alias, err)
	}
	return nil
}

// send sends one request for a pair of links.
func (l *Links) send(ctx context.Context, req *nl.NetlinkRequest) error {
	l.counts.requests.Add(1)
	return l.single.one(ctx, req)
}

// pairRequest makes the two ends, in the group of links of ours.
func pairRequest(v Veth) *nl.NetlinkRequest {
	req := linkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, 0)
	end(req.AddData, v.Host, v.MTU)
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(madeMark)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	end(func(d nl.NetlinkRequestData) { peer.AddChild(d) }, v.Peer, v.MTU)
	if v.PeerMAC != (dataplane.MAC{}) {
		peer.AddRtAttr(unix.IFLA_ADDRESS, v.PeerMAC[:])
	}
	req.AddData(info)
	return req
}

func end(add func(nl.NetlinkRequestData), name string, mtu int) {
	add(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	if mtu != 0 {
		add(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
	}
}

// settleRequest sets the alias, turns IP off as quiet does, and sets the link up. The kernel does all of it or, where it knows a setting not, nothing. The link is
// up a moment before IP is off: its other end is down, so nothing comes in.
func settleRequest(v Veth, ipv6 bool) *nl.NetlinkRequest {
	req := linkRequest(unix.RTM_SETLINK, 0, unix.IFF_UP)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(v.Host))) // says which one, as there is no index
	req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(v.Alias)))
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET, nil).AddChild(quietIPv4())
	if ipv6 {
		spec.AddRtAttr(unix.AF_INET6, nil).AddChild(quietIPv6())
	}
	req.AddData(spec)
	return req
}

func linkRequest(kind uint16, flags uint16, set uint32) *nl.NetlinkRequest {
	req := &nl.NetlinkRequest{NlMsghdr: unix.NlMsghdr{Len: unix.SizeofNlMsghdr, Type: kind, Flags: unix.NLM_F_REQUEST | flags}}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = set, set
	req.AddData(msg)
	return req
}
