package trust

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/store"
)

// managementPolicy is Consul's own policy that allows everything.
const managementPolicy = "00000000-0000-0000-0000-000000000001"

// Beginnings of the names of the policies of hosts' own tokens. Former agents put the host's id behind formerPolicy. Such a policy
// is replaced and never used again: Consul's index of names ignores case, so it may belong to two hosts.
const (
	hostPolicy   = "socketplane-member-"
	formerPolicy = "socketplane-host-"
)

// rulesVersion ends the names of these policies. It changes with hostRules, so that the tokens of members who are there get the new rules (SweepACL).
const rulesVersion = "-2"

// policyOf is the name of the policy of a host's token. It is made of the accessor, not of the id: other ids have other names, also
// where case is ignored.
func policyOf(id string) string { return hostPolicy + hostAccessor(id) + rulesVersion }

// hostRules are what a member's token may do, the least that an agent and a Consul client need. Networks, pools, claims and
// endpoints are records that all hosts write; who is a member, the keys and what another host says of itself are not. Ids have
// letters, digits and dashes only (admission), so that they fit into rules as they are.
func hostRules(id string) string {
	var b strings.Builder
	rule := func(kind, name, policy string) { fmt.Fprintf(&b, "%s %q { policy = %q }\n", kind, name, policy) }
	rule("key_prefix", store.Root, "write")
	for _, prefix := range []string{store.MembersPrefix, store.Root + "cluster/", store.HostsPrefix, store.AlivePrefix} {
		rule("key_prefix", prefix, "read")
	}
	rule("key_prefix", store.ClusterPrivateKey, "deny")
	rule("key", store.HostKey(id), "write")
	rule("key_prefix", store.HostKey(id)+"/", "write")
	rule("key", store.AliveKey(id), "write")
	rule("key", store.PermanentKey(store.AlivePrefix), "write") // any agent changes the layout
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
	policy, err := o.ensurePolicy(ctx, policyOf(id), hostRules(id))
	if err != nil {
		return store.Secret{}, fmt.Errorf("consul's ACLs: %w", err)
	}
	token, _, err := o.client.ACL().TokenRead(hostAccessor(id), (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err == nil && token != nil:
		if len(token.Policies) != 1 || token.Policies[0].ID != policy { // a former agent made it, or its policy was removed
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
		AccessorID: hostAccessor(id), SecretID: wanted.Reveal(), Description: "socketplane host " + id, Policies: []*api.ACLLink{{ID: policy}},
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return store.Secret{}, fmt.Errorf("consul's ACLs: token of host %s: %w", id, err)
	}
	return wanted, nil
}

// SweepACL removes the tokens and policies that nobody is to have any more: those of hosts that are no members, management tokens
// that are not among the keys, and what all members shared before the keys were Split. Members' tokens that link another policy
// than their own get that. Members are asked for after the policies and tokens were listed, so that no token of a host that joins
// just now is taken for one that nobody has.
func (o *Operator) SweepACL(ctx context.Context, keys store.Keys, members func(context.Context) ([]store.Member, error)) error {
	read, write := (&api.QueryOptions{}).WithContext(ctx), (&api.WriteOptions{}).WithContext(ctx)
	policies, _, err := o.client.ACL().PolicyList(read)
	if err != nil {
		return fmt.Errorf("consul's ACLs: %w", err)
	}
	tokens, _, err := o.client.ACL().TokenList(read)
	if err != nil {
		return fmt.Errorf("consul's ACLs: %w", err)
	}
	all, err := members(ctx)
	if err != nil {
		return err
	}
	hosts, wanted := map[string]string{}, map[string]bool{} // ids by accessor, and names of policies
	for _, m := range all {
		hosts[hostAccessor(m.ID)], wanted[policyOf(m.ID)] = m.ID, true
	}
	var errs []error
	for _, t := range tokens {
		if id, is := hosts[t.AccessorID]; is {
			if len(t.Policies) != 1 || t.Policies[0].Name != policyOf(id) {
				_, err := o.HostToken(ctx, id, store.Secret{})
				errs = append(errs, err)
			}
			continue
		}
		if !slices.ContainsFunc(t.Policies, func(p *api.ACLLink) bool {
			return ofHost(p.Name) || p.ID == managementPolicy && !listed(keys.Management, t.SecretID) || sharedRules()[p.Name] != ""
		}) {
			continue
		}
		if _, err := o.client.ACL().TokenDelete(t.AccessorID, write); err != nil && !missing(err) {
			errs = append(errs, fmt.Errorf("consul's ACLs: remove a token (%s): %w", t.Description, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err // a token that still links a former policy needs it
	}
	for _, p := range policies {
		if ofHost(p.Name) && !wanted[p.Name] || sharedRules()[p.Name] != "" {
			if _, err := o.client.ACL().PolicyDelete(p.ID, write); err != nil && !missing(err) {
				errs = append(errs, fmt.Errorf("consul's ACLs: remove a policy (%s): %w", p.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// ofHost says whether a policy of this name is that of a host's own token.
func ofHost(policy string) bool {
	return strings.HasPrefix(policy, hostPolicy) || strings.HasPrefix(policy, formerPolicy)
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
