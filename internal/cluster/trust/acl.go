package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/store"
)

// managementPolicy is Consul's own policy that allows everything.
const managementPolicy = "00000000-0000-0000-0000-000000000001"

// hostPolicy begins the names of the policies of hosts' own tokens.
const hostPolicy = "socketplane-host-"

// hostRules are what a member's token may do, the least that an agent and a Consul client need. Networks, pools, claims and
// endpoints are records that all hosts write; who is a member, the keys and what another host says of itself are not. Ids have
// letters, digits and dashes only (admission), so that they fit into rules as they are.
func hostRules(id string) string {
	var b strings.Builder
	rule := func(kind, name, policy string) { fmt.Fprintf(&b, "%s %q { policy = %q }\n", kind, name, policy) }
	rule("key_prefix", store.Root, "write")
	for _, prefix := range []string{store.MembersPrefix, store.Root + "cluster/", store.HostsPrefix} {
		rule("key_prefix", prefix, "read")
	}
	rule("key_prefix", store.ClusterPrivateKey, "deny")
	rule("key", store.HostKey(id), "write")
	rule("key_prefix", store.HostKey(id)+"/", "write")
	rule("session", id, "write")
	rule("node", id, "write")
	rule("service_prefix", "", "read")
	b.WriteString("operator = \"read\"\n") // who votes
	return b.String()
}

// hostAccessor is the public id of a host's token in Consul.
func hostAccessor(id string) string {
	sum := sha256.Sum256([]byte("socketplane host token " + id))
	return uuidOf(hex.EncodeToString(sum[:16]))
}

// sharedRules are what the two tokens may do that all members of a cluster which is not Split share.
func sharedRules() map[string]string {
	return map[string]string{
		"socketplane": `key_prefix "` + store.Root[:len("socketplane/")] + `" { policy = "write" }
session_prefix "" { policy = "write" }
`,
		"socketplane-agent": `node_prefix "" { policy = "write" }
service_prefix "" { policy = "read" }
`,
	}
}

// EnsureACL makes the tokens that the keys name, with their policies, if they are missing. Consul must have a leader.
func (o *Operator) EnsureACL(ctx context.Context, keys store.Keys) error {
	for _, m := range keys.Management {
		if err := o.ensureToken(ctx, "socketplane-management", managementPolicy, m); err != nil {
			return fmt.Errorf("consul's ACLs: %w", err)
		}
	}
	if keys.Split {
		return nil
	}
	for name, secret := range map[string]store.Secret{"socketplane": keys.ConsulToken, "socketplane-agent": keys.AgentToken} {
		policy, err := o.ensurePolicy(ctx, name, sharedRules()[name])
		if err == nil {
			err = o.ensureToken(ctx, name, policy, secret)
		}
		if err != nil {
			return fmt.Errorf("consul's ACLs: %w", err)
		}
	}
	return nil
}

// HostToken gives the Consul token of the host with this id. If there is none it is made; wanted is its secret then, if it is not
// empty.
func (o *Operator) HostToken(ctx context.Context, id string, wanted store.Secret) (store.Secret, error) {
	name := hostPolicy + id
	policy, err := o.ensurePolicy(ctx, name, hostRules(id))
	if err != nil {
		return store.Secret{}, fmt.Errorf("consul's ACLs: %w", err)
	}
	token, _, err := o.client.ACL().TokenRead(hostAccessor(id), (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err == nil && token != nil:
		if len(token.Policies) == 0 { // its policy was removed with a former token's
			token.Policies = []*api.ACLLink{{ID: policy}}
			_, _, err = o.client.ACL().TokenUpdate(token, (&api.WriteOptions{}).WithContext(ctx))
		}
		if err != nil {
			return store.Secret{}, fmt.Errorf("consul's ACLs: token of host %s: %w", id, err)
		}
		return store.NewSecret(token.SecretID), nil
	case err != nil && !missing(err):
		return store.Secret{}, fmt.Errorf("consul's ACLs: token of host %s: %w", id, err)
	}
	if wanted.Reveal() == "" {
		wanted = store.NewSecret(uuid())
	}
	_, _, err = o.client.ACL().TokenCreate(&api.ACLToken{
		AccessorID: hostAccessor(id), SecretID: wanted.Reveal(), Description: name, Policies: []*api.ACLLink{{ID: policy}},
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return store.Secret{}, fmt.Errorf("consul's ACLs: token of host %s: %w", id, err)
	}
	return wanted, nil
}

// SweepACL removes the tokens that nobody is to have any more: those of hosts that are no members, management tokens that are not
// among the keys, and those which all members shared before the keys were Split. Members are asked for after the tokens were
// listed, so that no token of a host that joins just now is taken for one that nobody has.
func (o *Operator) SweepACL(ctx context.Context, keys store.Keys, members func(context.Context) ([]store.Member, error)) error {
	write := (&api.WriteOptions{}).WithContext(ctx)
	tokens, _, err := o.client.ACL().TokenList((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("consul's ACLs: %w", err)
	}
	all, err := members(ctx)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, m := range all {
		known[hostPolicy+m.ID] = true
	}
	var errs []error
	for _, t := range tokens {
		for _, p := range t.Policies {
			host := strings.HasPrefix(p.Name, hostPolicy)
			switch {
			case host && !known[p.Name], p.ID == managementPolicy && !listed(keys.Management, t.SecretID), sharedRules()[p.Name] != "":
			default:
				continue
			}
			if _, err := o.client.ACL().TokenDelete(t.AccessorID, write); err != nil && !missing(err) {
				errs = append(errs, fmt.Errorf("consul's ACLs: remove a token (%s): %w", p.Name, err))
				continue
			}
			if p.ID != managementPolicy {
				if _, err := o.client.ACL().PolicyDelete(p.ID, write); err != nil && !missing(err) {
					errs = append(errs, fmt.Errorf("consul's ACLs: remove a policy (%s): %w", p.Name, err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func listed(all []store.Secret, secret string) bool {
	for _, s := range all {
		if s.Reveal() == secret {
			return true
		}
	}
	return false
}

// missing says whether Consul answered that there is no such token or policy: some versions say so by refusing.
func missing(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && (status.Code == http.StatusNotFound ||
		status.Code == http.StatusForbidden && strings.Contains(status.Body, "ACL not found"))
}

// ensurePolicy makes a policy with these rules, or gives the one that is there these rules. It returns its id.
func (o *Operator) ensurePolicy(ctx context.Context, name, rules string) (string, error) {
	query, write := (&api.QueryOptions{}).WithContext(ctx), (&api.WriteOptions{}).WithContext(ctx)
	policy, _, err := o.client.ACL().PolicyReadByName(name, query)
	if err != nil && !missing(err) {
		return "", fmt.Errorf("policy %s: %w", name, err)
	}
	switch {
	case policy == nil:
		policy, _, err = o.client.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, write)
	case policy.Rules != rules:
		policy, _, err = o.client.ACL().PolicyUpdate(&api.ACLPolicy{ID: policy.ID, Name: name, Rules: rules}, write)
	default:
		return policy.ID, nil
	}
	if err != nil {
		return "", fmt.Errorf("policy %s: %w", name, err)
	}
	return policy.ID, nil
}

// ensureToken makes the token with this secret if there is none.
func (o *Operator) ensureToken(ctx context.Context, name, policy string, secret store.Secret) error {
	_, _, err := o.client.ACL().TokenReadSelf((&api.QueryOptions{Token: secret.Reveal()}).WithContext(ctx))
	var status api.StatusError
	if err == nil || !errors.As(err, &status) || status.Code != http.StatusForbidden && status.Code != http.StatusNotFound {
		return err
	}
	_, _, err = o.client.ACL().TokenCreate(&api.ACLToken{
		SecretID: secret.Reveal(), Description: name, Policies: []*api.ACLLink{{ID: policy}},
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("token %s: %w", name, err)
	}
	return nil
}
