package hostlink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/internal/dataplane"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Veth is a veth pair: the host end stays here and becomes a switch port, the peer end goes to a container.
type Veth struct {
	Host, Peer string
	// PeerMAC is the container's address; zero leaves the kernel's random one.
	PeerMAC dataplane.MAC
	// MTU of both ends, in bytes; 0 leaves the kernel's.
	MTU int
	// Alias is the identity, kept on the host end; it begins with OwnerPrefix.
	Alias string
	// TXChecksum leaves checksums of sent packets to the other end (and with them TSO). False turns both off on
	// both ends: a switch in user space without segmentation offload forwards the unfinished checksums as they are.
	TXChecksum bool
}

// EnsureVeth makes the pair or mends it. The host end is up and has no IP of any kind; the peer is left down when
// it is made, as Docker moves it and sets it up. A peer that has moved already is not touched any more.
//
// Errors wrap ErrForeign when a name belongs to another's link, and ErrDiffers when the host end has
// another identity of ours.
func (l *Links) EnsureVeth(ctx context.Context, v Veth) error {
	if err := errors.Join(checkWanted(v.Host, v.Alias, v.MTU), checkWanted(v.Peer, v.Alias, v.MTU)); err != nil {
		return err
	}
	err := l.newVeth(ctx, v)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	host, err := l.find(ctx, v.Host)
	if err != nil {
		return err
	}
	if host == nil { // the kernel says "file exists" and leaves open which of the two names it means
		peer, err := l.find(ctx, v.Peer)
		if err != nil {
			return err
		}
		if peer == nil { // it went meanwhile
			return l.newVeth(ctx, v)
		}
		return foreign(peer, "has the name of the container's end of "+v.Alias)
	}
	if err := checkOwner(host, "veth", v.Alias); err != nil {
		return err
	}
	return l.mendVeth(ctx, host, v)
}

// mendVeth mends a pair that is there.
func (l *Links) mendVeth(ctx context.Context, host netlink.Link, v Veth) error {
	if err := l.mend(host, v.Alias, v.MTU); err != nil {
		return err
	}
	if err := l.mendPeer(ctx, host, v); err != nil {
		return err
	}
	if err := l.setTXChecksum(v.Host, v.TXChecksum); err != nil {
		return err
	}
	if err := l.quiet(host); err != nil {
		return err
	}
	return l.up(host)
}

// mendPeer mends the other end while it is in this namespace.
func (l *Links) mendPeer(ctx context.Context, host netlink.Link, v Veth) error {
	peer, err := l.peerOf(ctx, host)
	if err != nil || peer == nil {
		return err
	}
	a := peer.Attrs()
	if a.Name != v.Peer {
		return &DiffersError{Link: v.Host, Attribute: "peer", Have: a.Name, Want: v.Peer}
	}
	if v.PeerMAC != (dataplane.MAC{}) && !bytes.Equal(a.HardwareAddr, v.PeerMAC[:]) {
		crashpoint.Hit("link: MAC")
		if err := l.handle.LinkSetHardwareAddr(peer, net.HardwareAddr(v.PeerMAC[:])); err != nil {
			return moved(fmt.Errorf("set the MAC of link %s to %s: %w", v.Peer, v.PeerMAC, err))
		}
	}
	if err := l.mend(peer, "", v.MTU); err != nil {
		return moved(err)
	}
	return moved(l.setTXChecksum(v.Peer, v.TXChecksum))
}

// moved forgives that the peer is gone: Docker may take it in any moment.
func moved(err error) error {
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// peerOf gives the other end of a veth if it is in this namespace, else nil. An index alone does not
// identify it, as every namespace counts for itself: both ends must name each other and no other namespace.
func (l *Links) peerOf(ctx context.Context, host netlink.Link) (netlink.Link, error) {
	a := host.Attrs()
	if a.NetNsID >= 0 || a.ParentIndex == 0 {
		return nil, nil
	}
	peer, err := l.findIndex(ctx, a.ParentIndex)
	if err != nil || peer == nil {
		return nil, err
	}
	if b := peer.Attrs(); peer.Type() != "veth" || b.NetNsID >= 0 || b.ParentIndex != a.Index {
		return nil, nil
	}
	return peer, nil
}
