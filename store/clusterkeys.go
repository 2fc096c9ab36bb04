package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Phase is how far a rotation of the keys has come.
type Phase string

// Phases of a rotation. Neighbours get along with each other, so that it is enough that no host is two behind.
const (
	// PhaseNone: one certificate authority, one gossip key.
	PhaseNone Phase = ""
	// PhaseSpread: the new ones are known beside the old ones, which are used.
	PhaseSpread Phase = "spread"
	// PhaseUse: the new ones are used, the old ones still accepted.
	PhaseUse Phase = "use"
)

// Authority is a certificate authority of the cluster, in PEM.
type Authority struct {
	Cert string
	Key  Secret
}

// Keys are the secrets of a cluster that SocketPlane runs itself, in one record. Every member has them.
type Keys struct {
	Schema int
	// Cluster is the cluster's id.
	Cluster string
	// Locked says that new hosts need a token.
	Locked bool
	// CAs are all trusted; the first one signs.
	CAs []Authority
	// Gossip keys are all accepted; the first one is used.
	Gossip []Secret
	// Epoch grows with every change of CAs or Gossip.
	Epoch uint64
	Phase Phase
	// Since is when the phase began.
	Since time.Time
	// Rotate says that a rotation is to begin as soon as none is under way.
	Rotate bool
	// ConsulToken reaches our records and sessions, AgentToken lets Consul's agents register their hosts,
	// ManagementToken may do everything.
	ConsulToken, AgentToken, ManagementToken Secret
	Nonce                                    string
}

// keysRecord is the stored form of Keys: Secret itself carries its value nowhere.
type keysRecord struct {
	Schema     int               `json:"schema"`
	Cluster    string            `json:"cluster"`
	Locked     bool              `json:"locked"`
	CAs        []authorityRecord `json:"cas"`
	Gossip     []string          `json:"gossip"`
	Epoch      uint64            `json:"epoch"`
	Phase      Phase             `json:"phase,omitempty"`
	Since      time.Time         `json:"since"`
	Rotate     bool              `json:"rotate,omitempty"`
	Consul     string            `json:"consul_token"`
	Agent      string            `json:"agent_token"`
	Management string            `json:"management_token"`
	Nonce      string            `json:"nonce"`
}

type authorityRecord struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// RevealKeys gives the stored form of the record, with its secrets.
func RevealKeys(k Keys) []byte {
	r := keysRecord{
		Schema: Schema, Cluster: k.Cluster, Locked: k.Locked, Epoch: k.Epoch, Phase: k.Phase, Since: k.Since, Rotate: k.Rotate,
		Consul: k.ConsulToken.Reveal(), Agent: k.AgentToken.Reveal(), Management: k.ManagementToken.Reveal(), Nonce: k.Nonce,
	}
	for _, ca := range k.CAs {
		r.CAs = append(r.CAs, authorityRecord{ca.Cert, ca.Key.Reveal()})
	}
	for _, g := range k.Gossip {
		r.Gossip = append(r.Gossip, g.Reveal())
	}
	return Encode(r)
}

// DecodeKeys reads what RevealKeys wrote.
func DecodeKeys(value []byte) (Keys, error) {
	r, err := Decode[keysRecord](Entry{Key: ClusterKeysKey, Value: value})
	if err != nil {
		return Keys{}, err
	}
	k := Keys{
		Schema: r.Schema, Cluster: r.Cluster, Locked: r.Locked, Epoch: r.Epoch, Phase: r.Phase, Since: r.Since, Rotate: r.Rotate,
		ConsulToken: NewSecret(r.Consul), AgentToken: NewSecret(r.Agent), ManagementToken: NewSecret(r.Management), Nonce: r.Nonce,
	}
	for _, ca := range r.CAs {
		k.CAs = append(k.CAs, Authority{ca.Cert, NewSecret(ca.Key)})
	}
	for _, g := range r.Gossip {
		k.Gossip = append(k.Gossip, NewSecret(g))
	}
	return k, nil
}

// Keys reads the cluster's keys; ErrNotFound if it has none.
func (c *Cluster) Keys(ctx context.Context) (Keys, error) {
	k, version, err := c.findKeys(ctx)
	if err == nil && version == 0 {
		err = fmt.Errorf("%w: the cluster has no keys", ErrNotFound)
	}
	return k, err
}

// WatchKeys is KV.Watch for the keys; ErrNotFound if there are none.
func (c *Cluster) WatchKeys(ctx context.Context, since uint64) (Keys, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, ClusterKeysKey, since)
	if err != nil {
		return Keys{}, 0, err
	}
	for _, e := range entries {
		if e.Key == ClusterKeysKey {
			k, err := DecodeKeys(e.Value)
			return k, index, err
		}
	}
	return Keys{}, index, fmt.Errorf("%w: the cluster has no keys", ErrNotFound)
}

// PutKeys writes the keys of a new cluster. It returns ErrMismatch if the store has another one's; the same cluster's are kept.
func (c *Cluster) PutKeys(ctx context.Context, k Keys) error {
	return c.change(ctx, func() ([]Op, error) {
		old, version, err := c.findKeys(ctx)
		switch {
		case err != nil:
			return nil, err
		case version == 0:
			return []Op{setKeys(k, 0)}, nil
		case old.Cluster != k.Cluster:
			// Not ErrConflict: that would be tried again.
			return nil, fmt.Errorf("%w: the store belongs to cluster %s", ErrMismatch, old.Cluster)
		}
		return nil, nil
	})
}

// UpdateKeys lets change alter the keys, again when somebody else was faster; it reports what they are then. Nothing is written when change says so.
func (c *Cluster) UpdateKeys(ctx context.Context, change func(*Keys) (write bool, err error)) (Keys, error) {
	var k Keys
	err := c.change(ctx, func() ([]Op, error) {
		old, version, err := c.findKeys(ctx)
		if err != nil {
			return nil, err
		}
		if version == 0 {
			return nil, fmt.Errorf("%w: the cluster has no keys", ErrNotFound)
		}
		k = old
		write, err := change(&k)
		if err != nil || !write {
			return nil, err
		}
		return []Op{setKeys(k, version)}, nil
	})
	return k, err
}

// Lock closes the cluster: new hosts need a token, and the keys are rotated, as others may have heard the old ones. Locking it again changes nothing.
func (c *Cluster) Lock(ctx context.Context) error { return c.setLocked(ctx, true) }

// Unlock opens the cluster.
func (c *Cluster) Unlock(ctx context.Context) error { return c.setLocked(ctx, false) }

func (c *Cluster) setLocked(ctx context.Context, locked bool) error {
	_, err := c.UpdateKeys(ctx, func(k *Keys) (bool, error) {
		changed := k.Locked != locked
		k.Locked = locked
		k.Rotate = k.Rotate || changed && locked
		return changed, nil
	})
	return err
}

func (c *Cluster) findKeys(ctx context.Context) (Keys, uint64, error) {
	e, err := c.kv.Get(ctx, ClusterKeysKey)
	if errors.Is(err, ErrNotFound) {
		return Keys{}, 0, nil
	}
	if err != nil {
		return Keys{}, 0, err
	}
	k, err := DecodeKeys(e.Value)
	return k, e.Version, err
}

func setKeys(k Keys, version uint64) Op {
	k.Nonce = NewNonce()
	return Op{Kind: OpSet, Key: ClusterKeysKey, Value: RevealKeys(k), Version: version}
}
