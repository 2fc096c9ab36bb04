package mirror

import (
	"context"
	"errors"
	"net/netip"

	"github.com/socketplane/socketplane/store"
)

// makeDefault declares the network that a new cluster begins with. It is made once: who removes it
// wants it gone.
func (m *Mirror) makeDefault(ctx context.Context) error {
	if m.defaultMade || m.opts.Default.Name == "" {
		return nil
	}
	kv := m.cluster.KV()
	_, err := kv.Get(ctx, store.DefaultMadeKey)
	if err == nil {
		m.defaultMade = true
		return nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	subnet := m.opts.Default.Subnet
	if !subnet.IsValid() {
		if subnet, err = m.opts.Propose(ctx, false); err != nil {
			return err
		}
	}
	_, err = m.cluster.Create(ctx, store.NewNetwork{Name: m.opts.Default.Name, Pools: []netip.Prefix{subnet}})
	switch {
	case err == nil:
		m.log.Info("the cluster's first network is made", "network", m.opts.Default.Name, "pool", subnet)
	case errors.Is(err, store.ErrOverlap) && m.opts.Default.Subnet.IsValid():
		m.log.Warn("the first network's subnet is in use: give another --default-subnet, or --default-network none", "err", err)
		m.defaultMade = true // not again before a restart
		return nil
	case !errors.Is(err, store.ErrNameTaken):
		return err
	}
	m.defaultMade = true
	return kv.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.DefaultMadeKey, Value: []byte(m.opts.Default.Name)})
}
