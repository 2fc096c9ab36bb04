package trust

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/store"
)

// Operator makes those calls of Consul's operator API that have to do with keys. Its client needs the management token.
type Operator struct {
	client *api.Client
}

var _ Gossip = (*Operator)(nil)

// NewOperator returns the operator's calls through client.
func NewOperator(client *api.Client) *Operator { return &Operator{client: client} }

// SetKeyring implements Gossip.
func (o *Operator) SetKeyring(ctx context.Context, keys []store.Secret) error {
	if len(keys) == 0 {
		return errors.New("gossip keys: there are none")
	}
	have, nodes, err := o.keyring(ctx)
	if err != nil {
		return err
	}
	write := (&api.WriteOptions{}).WithContext(ctx)
	wanted := map[string]bool{}
	changed := false
	for _, k := range keys {
		wanted[k.Reveal()] = true
		if have.Keys[k.Reveal()] < nodes {
			changed = true
			if err := o.client.Operator().KeyringInstall(k.Reveal(), write); err != nil {
				return keyringError("install", err)
			}
		}
	}
	if have.PrimaryKeys[keys[0].Reveal()] < nodes {
		changed = true
		if err := o.client.Operator().KeyringUse(keys[0].Reveal(), write); err != nil {
			return keyringError("use", err)
		}
	}
	for k := range have.Keys {
		if !wanted[k] {
			changed = true
			if err := o.client.Operator().KeyringRemove(k, write); err != nil {
				return keyringError("remove", err)
			}
		}
	}
	if !changed {
		return nil
	}
	return o.check(ctx, keys)
}

// check reads back what all hosts have.
func (o *Operator) check(ctx context.Context, keys []store.Secret) error {
	have, nodes, err := o.keyring(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if have.Keys[k.Reveal()] < nodes {
			return fmt.Errorf("gossip keys: %d of %d hosts have a key", have.Keys[k.Reveal()], nodes)
		}
	}
	if n := have.PrimaryKeys[keys[0].Reveal()]; n < nodes || len(have.Keys) != len(keys) {
		return fmt.Errorf("gossip keys: %d of %d hosts use the newest, and there are %d instead of %d", n, nodes, len(have.Keys), len(keys))
	}
	return nil
}

func (o *Operator) keyring(ctx context.Context) (*api.KeyringResponse, int, error) {
	rings, err := o.client.Operator().KeyringList((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, 0, keyringError("list", err)
	}
	for _, r := range rings {
		if !r.WAN {
			return r, r.NumNodes, nil
		}
	}
	return nil, 0, errors.New("gossip keys: Consul tells of no keyring")
}

// keyringError leaves out what Consul quotes: a key.
func keyringError(what string, err error) error {
	var status api.StatusError
	if errors.As(err, &status) {
		return fmt.Errorf("gossip keys: %s: Consul answers %d: not every host has followed yet", what, status.Code)
	}
	return fmt.Errorf("gossip keys: %s: %w", what, err)
}
