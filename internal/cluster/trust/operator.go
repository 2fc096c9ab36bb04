package trust

import (
	"context"
	"errors"
	"fmt"
	"net/http"

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

// policies are what SocketPlane's two lesser tokens may do.
func policies() map[string]string {
	return map[string]string{
		"socketplane": `key_prefix "` + store.Root[:len("socketplane/")] + `" { policy = "write" }
session_prefix "" { policy = "write" }
`,
		"socketplane-agent": `node_prefix "" { policy = "write" }
service_prefix "" { policy = "read" }
`,
	}
}

// EnsureACL makes the two lesser tokens with their policies, if they are missing. Consul must have a leader.
func (o *Operator) EnsureACL(ctx context.Context, keys store.Keys) error {
	for name, secret := range map[string]store.Secret{"socketplane": keys.ConsulToken, "socketplane-agent": keys.AgentToken} {
		if err := o.ensureToken(ctx, name, secret); err != nil {
			return fmt.Errorf("consul's ACLs: %w", err)
		}
	}
	return nil
}

func (o *Operator) ensureToken(ctx context.Context, name string, secret store.Secret) error {
	self := (&api.QueryOptions{Token: secret.Reveal()}).WithContext(ctx)
	_, _, err := o.client.ACL().TokenReadSelf(self)
	var status api.StatusError
	if err == nil || !errors.As(err, &status) || status.Code != http.StatusForbidden && status.Code != http.StatusNotFound {
		return err
	}
	query, write := (&api.QueryOptions{}).WithContext(ctx), (&api.WriteOptions{}).WithContext(ctx)
	policy, _, err := o.client.ACL().PolicyReadByName(name, query)
	if err != nil && !errors.As(err, &status) {
		return err
	}
	if err != nil || policy == nil {
		if policy, _, err = o.client.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: policies()[name]}, write); err != nil {
			return fmt.Errorf("policy %s: %w", name, err)
		}
	}
	_, _, err = o.client.ACL().TokenCreate(&api.ACLToken{
		SecretID: secret.Reveal(), Description: name, Policies: []*api.ACLLink{{ID: policy.ID}},
	}, write)
	if err != nil {
		return fmt.Errorf("token %s: %w", name, err)
	}
	return nil
}
