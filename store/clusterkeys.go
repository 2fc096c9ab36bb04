package store

import (
	"context"
	"encoding/json"
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

// Keys are the secrets of a cluster that SocketPlane runs itself. Two records hold them: ClusterKeysKey what every member
// needs (Public), ClusterPrivateKey everything, for the hosts whose Consul is a server. Clusters made by agents that know no
// Split have one record with everything, which all members hold.
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
	// Split says that only servers hold the authorities' keys and the management tokens, and that each host has a Consul token
	// of its own.
	Split bool
	// Management tokens may do everything in Consul. The first is used; the others are accepted while a rotation lasts.
	Management []Secret
	// ConsulToken reaches all records and sessions, AgentToken lets Consul's agents register their hosts. Both are empty in a
	// Split cluster.
	ConsulToken, AgentToken Secret
	Nonce                   string
}

// Private says whether the secrets are there that only servers hold in a Split cluster.
func (k Keys) Private() bool { return len(k.Management) > 0 }

// ManagementToken is the management token that is used; empty if this host holds none.
func (k Keys) ManagementToken() Secret {
	if len(k.Management) == 0 {
		return Secret{}
	}
	return k.Management[0]
}

// Public is what every member of a Split cluster may know.
func (k Keys) Public() Keys {
	cas := make([]Authority, 0, len(k.CAs))
	for _, ca := range k.CAs {
		cas = append(cas, Authority{Cert: ca.Cert})
	}
	k.CAs, k.Management, k.ConsulToken, k.AgentToken = cas, nil, Secret{}, Secret{}
	return k
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
	Split      bool              `json:"split,omitempty"`
	Consul     string            `json:"consul_token,omitempty"`
	Agent      string            `json:"agent_token,omitempty"`
	Management string            `json:"management_token,omitempty"`
	// Others are management tokens beside the one that is used.
	Others []string `json:"other_management_tokens,omitempty"`
	Nonce  string   `json:"nonce"`
}

// splitSchema is the schema of the records of a Split cluster: agents that know no Split must not take them for theirs.
const splitSchema = 2

type authorityRecord struct {
	Cert string `json:"cert"`
	Key  string `json:"key,omitempty"`
}

// RevealKeys gives the stored form of the record, with its secrets.
func RevealKeys(k Keys) []byte {
	r := keysRecord{
		Schema: Schema, Cluster: k.Cluster, Locked: k.Locked, Epoch: k.Epoch, Phase: k.Phase, Since: k.Since, Rotate: k.Rotate,
		Split: k.Split, Consul: k.ConsulToken.Reveal(), Agent: k.AgentToken.Reveal(), Management: k.ManagementToken().Reveal(), Nonce: k.Nonce,
	}
	if k.Split {
		r.Schema = splitSchema
	}
	for i, m := range k.Management {
		if i > 0 {
			r.Others = append(r.Others, m.Reveal())
		}
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
	r, err := decodeKeys(value)
	if err != nil {
		return Keys{}, err
	}
	k := Keys{
		Schema: r.Schema, Cluster: r.Cluster, Locked: r.Locked, Epoch: r.Epoch, Phase: r.Phase, Since: r.Since, Rotate: r.Rotate,
		Split: r.Split, ConsulToken: NewSecret(r.Consul), AgentToken: NewSecret(r.Agent), Nonce: r.Nonce,
	}
	if r.Management != "" {
		for _, m := range append([]string{r.Management}, r.Others...) {
			k.Management = append(k.Management, NewSecret(m))
		}
	}
	for _, ca := range r.CAs {
		k.CAs = append(k.CAs, Authority{ca.Cert, NewSecret(ca.Key)})
	}
	for _, g := range r.Gossip {
		k.Gossip = append(k.Gossip, NewSecret(g))
	}
	return k, nil
}

// decodeKeys is Decode for a record that has one more schema.
func decodeKeys(value []byte) (keysRecord, error) {
	e := Entry{Key: ClusterKeysKey, Value: value}
	schema, err := SchemaOf(e)
	if err != nil || schema != splitSchema {
		return Decode[keysRecord](e)
	}
	var r keysRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("%w: record %s is not readable", ErrInvalid, e.Key) // the reason may quote a secret
	}
	if r.Split = true; r.Management == "" {
		r.Others = nil
	}
	return r, nil
}

// errNoKeys says that the store has no keys of a cluster.
func errNoKeys() error { return fmt.Errorf("%w: the cluster has no keys", ErrNotFound) }

// Keys reads what every member may know of the cluster's keys, and all of them if they are not Split; ErrNotFound if there are none.
func (c MemberRecords) Keys(ctx context.Context) (Keys, error) {
	k, version, err := c.readKeys(ctx, ClusterKeysKey)
	if err == nil && version == 0 {
		err = errNoKeys()
	}
	return k, err
}

// AllKeys reads all of the cluster's keys, which only servers may; ErrNotFound if there are none.
func (c MemberRecords) AllKeys(ctx context.Context) (Keys, error) {
	var all Keys
	err := c.change(ctx, func() ([]Op, error) {
		found, err := c.findKeys(ctx)
		if err == nil && found.version == 0 {
			err = errNoKeys()
		}
		all = found.Keys
		return nil, err
	})
	return all, err
}

// WatchKeys is KV.Watch for the keys; ErrNotFound if there are none.
func (c MemberRecords) WatchKeys(ctx context.Context, since uint64) (Keys, uint64, error) {
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
	return Keys{}, index, errNoKeys()
}

// PutKeys writes the keys of a new cluster. It returns ErrMismatch if the store has another one's; the same cluster's are kept.
func (c MemberRecords) PutKeys(ctx context.Context, k Keys) error {
	return c.change(ctx, func() ([]Op, error) {
		old, err := c.findKeys(ctx)
		switch {
		case err != nil:
			return nil, err
		case old.version == 0:
			old.Keys = k
			return old.ops(), nil
		case old.Cluster != k.Cluster:
			// Not ErrConflict: that would be tried again.
			return nil, fmt.Errorf("%w: the store belongs to cluster %s", ErrMismatch, old.Cluster)
		}
		return nil, nil
	})
}

// UpdateKeys lets change alter the keys, again when somebody else was faster; it reports what they are then. Nothing is written when change says so.
func (c MemberRecords) UpdateKeys(ctx context.Context, change func(*Keys) (write bool, err error)) (Keys, error) {
	var k Keys
	err := c.change(ctx, func() ([]Op, error) {
		found, err := c.findKeys(ctx)
		if err != nil {
			return nil, err
		}
		if found.version == 0 {
			return nil, errNoKeys()
		}
		k = found.Keys
		write, err := change(&k)
		if err != nil || !write {
			return nil, err
		}
		found.Keys = k
		return found.ops(), nil
	})
	return k, err
}

// Lock closes the cluster: new hosts need a token, and the keys are rotated, as others may have heard the old ones. Locking it again changes nothing.
func (c MemberRecords) Lock(ctx context.Context) error { return c.setLocked(ctx, true) }

// Unlock opens the cluster.
func (c MemberRecords) Unlock(ctx context.Context) error { return c.setLocked(ctx, false) }

func (c *core) setLocked(ctx context.Context, locked bool) error {
	_, err := c.members().UpdateKeys(ctx, func(k *Keys) (bool, error) {
		changed := k.Locked != locked
		k.Locked = locked
		k.Rotate = k.Rotate || changed && locked
		return changed, nil
	})
	return err
}

// foundKeys are all keys with the versions of their records; 0 for one that is not there.
type foundKeys struct {
	Keys
	version, private uint64
}

// findKeys reads all keys. ErrConflict says that they were changed in between.
func (c *core) findKeys(ctx context.Context) (foundKeys, error) {
	k, version, err := c.readKeys(ctx, ClusterKeysKey)
	if err != nil || !k.Split {
		return foundKeys{Keys: k, version: version}, err
	}
	all, private, err := c.readKeys(ctx, ClusterPrivateKey)
	if err == nil && all.Nonce != k.Nonce {
		err = fmt.Errorf("%w: the cluster's keys were changed just now", ErrConflict)
	}
	return foundKeys{all, version, private}, err
}

func (c *core) readKeys(ctx context.Context, key string) (Keys, uint64, error) {
	e, err := c.kv.Get(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return Keys{}, 0, nil
	}
	if err != nil {
		return Keys{}, 0, err
	}
	k, err := DecodeKeys(e.Value)
	return k, e.Version, err
}

// ops write the keys. The record that all members read and the one for servers carry the same nonce.
func (f foundKeys) ops() []Op {
	f.Nonce = NewNonce()
	if !f.Split {
		return []Op{{Kind: OpSet, Key: ClusterKeysKey, Value: RevealKeys(f.Keys), Version: f.version}}
	}
	return []Op{
		{Kind: OpSet, Key: ClusterKeysKey, Value: RevealKeys(f.Public()), Version: f.version},
		{Kind: OpSet, Key: ClusterPrivateKey, Value: RevealKeys(f.Keys), Version: f.private},
	}
}
