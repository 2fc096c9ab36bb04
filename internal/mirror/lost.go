package mirror

import (
	"context"
	"errors"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
)

// unrecorded is for a network of this host of which the cluster has no record. Either the cluster is the one that it was in, and has
// removed it while this host was away for so long that it was taken for gone; or the cluster's data are others, and
// nobody has removed anything.
func (p *pass) unrecorded(ctx context.Context, n dockerwatch.Network, b netview.Network) error {
	same, err := p.sameCluster(ctx)
	if err != nil {
		return err
	}
	if same {
		return p.drop(ctx, n, b, "it was removed while this host was away")
	}
	p.unknown.Store(true)
	p.trouble(b.ID, n.Name, "the cluster has lost its record of this network: 'docker network rm %s' and create it again", called(n))
	return nil
}

// sameCluster says whether the cluster is the one whose networks this host has.
func (m *Mirror) sameCluster(ctx context.Context) (bool, error) {
	if m.opts.Local == nil {
		return false, nil
	}
	known, err := m.opts.Local.Get(ctx, store.LocalIdentityKey)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now, err := m.cluster.Identity(ctx)
	return err == nil && now == string(known.Value), err
}

// remember notes which cluster this host's networks are in, after a pass that found all of them there.
func (m *Mirror) remember(ctx context.Context) error {
	if m.opts.Local == nil || m.remembered {
		return nil
	}
	now, err := m.cluster.Identity(ctx)
	if err != nil {
		return err
	}
	if err := m.opts.Local.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.LocalIdentityKey, Value: []byte(now)}); err != nil {
		return err
	}
	m.remembered = true
	return nil
}
