package trust_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// TestHostPolicies: Consul's index of policy names ignores case, so two ids that differ only in case must not meet in one policy.
// Policies that former agents named after the id are replaced.
func TestHostPolicies(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), estatePatience)
	defer cancel()
	n := newNode(t, ctx, 21)
	c, err := trust.Found(n.keeper.Identity(), n.subject(), false, trust.Lifetimes{}, time.Now())
	must(t, err)
	must(t, n.keeper.Set(c))
	n.start()
	acl := n.client(store.Secret{}, n.keeper.ConsulTLS()).ACL()
	op := trust.NewOperator(n.client(store.Secret{}, n.keeper.ConsulTLS()))
	n.until("the ACLs are made", func() bool { return op.EnsureACL(ctx, c.Keys) == nil })
	// rulesOf gives the rules that a token has by all of its policies.
	rulesOf := func(secret store.Secret) (rules string) {
		t.Helper()
		token, _, err := acl.TokenReadSelf(&api.QueryOptions{Token: secret.Reveal()})
		must(t, err)
		for _, link := range token.Policies {
			policy, _, err := acl.PolicyRead(link.ID, nil)
			must(t, err)
			rules += policy.Rules
		}
		return rules
	}
	const low, up, other = "aaaaaaaa", "AAAAAAAA", "bbbbbbbb"
	tokens := map[string]store.Secret{}
	check := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			rules := rulesOf(tokens[id])
			for _, of := range []string{low, up, other} {
				if strings.Contains(rules, `session "`+of+`"`) != (of == id) {
					t.Errorf("host %s has the rules of host %s: %s", id, of, rules)
				}
			}
		}
	}
	for _, id := range []string{low, up, other} {
		tokens[id], err = op.HostToken(ctx, id, store.Secret{})
		must(t, err)
	}
	check(low, up, other)

	// As former agents left them: a policy named after the id, which one host shares with another and a third has lost.
	former, _, err := acl.PolicyCreate(&api.ACLPolicy{Name: "socketplane-host-" + low, Rules: `session "` + up + `" { policy = "write" }`}, nil)
	must(t, err)
	link := func(id string, policies ...*api.ACLLink) {
		t.Helper()
		token, _, err := acl.TokenReadSelf(&api.QueryOptions{Token: tokens[id].Reveal()})
		must(t, err)
		token.Policies = policies
		_, _, err = acl.TokenUpdate(token, nil)
		must(t, err)
	}
	link(low, &api.ACLLink{ID: former.ID})
	link(up, &api.ACLLink{ID: former.ID})
	link(other)
	again, err := op.HostToken(ctx, low, store.Secret{})
	must(t, err)
	if again.Reveal() != tokens[low].Reveal() {
		t.Error("a token that is linked with another policy is not the same token any more")
	}
	check(low)
	link(low, &api.ACLLink{ID: former.ID})
	members := func(context.Context) ([]store.Member, error) { return []store.Member{{ID: low}, {ID: other}}, nil }
	for range 2 {
		must(t, op.SweepACL(ctx, c.Keys, members))
		check(low, other)
		if _, _, err := acl.TokenReadSelf(&api.QueryOptions{Token: tokens[up].Reveal()}); err == nil {
			t.Error("a host that is no member has a token")
		}
		if got := hostPolicies(t, acl); len(got) != 2 || slices.Contains(got, former.Name) {
			t.Errorf("policies of hosts: %v, want one for each of two members", got)
		}
	}
}

// hostPolicies are the names of all policies of hosts.
func hostPolicies(t *testing.T, acl *api.ACL) (names []string) {
	t.Helper()
	all, _, err := acl.PolicyList(nil)
	must(t, err)
	for _, p := range all {
		if strings.HasPrefix(p.Name, "socketplane-host-") || strings.HasPrefix(p.Name, "socketplane-member-") {
			names = append(names, p.Name)
		}
	}
	return names
}
