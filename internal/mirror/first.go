package mirror

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/socketplane/socketplane/store"
)

// first makes the first network. Why it can't be made is trouble of that network alone; the next pass tries again.
func (p *pass) first(ctx context.Context) error {
	err := p.makeDefault(ctx)
	if err == nil || errors.Is(err, store.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	if errors.Is(err, store.ErrOverlap) && !p.opts.Default.Subnet.IsValid() {
		time.AfterFunc(retryFirst, p.Wake) // another host was faster, with this network or another
		return nil
	}
	p.trouble("", p.opts.Default.Name, "the cluster's first network can't be made: %s; it is made as soon as that is over, or give the agents "+
		"another --default-subnet, or --default-network none", err)
	return nil
}

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
	if wait := m.opts.Times.First - time.Since(m.started); wait > 0 {
		time.AfterFunc(wait, m.Wake)
		return nil
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
	case !errors.Is(err, store.ErrNameTaken):
		return err
	}
	m.defaultMade = true
	return kv.Apply(ctx, store.Op{Kind: store.OpPut, Key: store.DefaultMadeKey, Value: []byte(m.opts.Default.Name)})
}
