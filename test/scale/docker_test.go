package scale

import (
	"context"
	"time"

	"github.com/socketplane/socketplane/test/internal/libnetwork"
)

// segment is a network as Docker has it on this host, whose containers are numbered.
type segment struct {
	*libnetwork.Network
	made int
}

// newSegment makes a network of a subnet, with this host's addresses from a part of it ("" for all of it).
func newSegment(ctx context.Context, d *libnetwork.Client, id, subnet, within string) (*segment, error) {
	n, err := d.Network(ctx, id, subnet, within)
	return &segment{Network: n}, err
}

// join does what Docker does when a container starts, and tells how long CreateEndpoint and Join took.
func (n *segment) join(ctx context.Context) (attach time.Duration, err error) {
	number := n.made
	n.made++
	e, err := n.Join(ctx, libnetwork.ID("ep"+n.ID[:12], number), libnetwork.MAC(macLocal, number))
	if err != nil {
		return 0, err
	}
	return e.Attach, nil
}
