package cluster_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/store"
)

// TestUpgrade: hosts whose agents are older than the separation of keys are upgraded one by one. All members work all the time; when all are
// upgraded, those that are no servers lose what they had, and what they had is worthless.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := newSegment(t)
	hosts := []*host{s.host(), s.host(), s.host(), s.host(), s.host()}
	for _, h := range hosts[:4] {
		h.cfg.Former = true
		h.start()
	}
	first := hosts[:4]
	s.await("one cluster of three servers and a client", patience, func() bool { return formed(3, first...) })
	servers, clients := rolesOf(first...)
	all := secretsOf(servers[0])
	shared := servers[0].credentials().Keys
	if found := clients[0].onDisk(all); len(found) < 2 {
		t.Fatalf("a client of the former layout has only %v", found)
	}
	client, up := clients[0], first
	order := append(slices.Clone(clients), servers...)
	for i, h := range order {
		if h == order[len(order)-1] {
			client.crash() // it is away while the keys are changed
			up = servers
		}
		h.kill()
		h.cfg.Former = false
		h.start()
		s.await(h.cfg.Name+" is upgraded", patience, func() bool {
			st := h.status()
			upgraded := slices.ContainsFunc(st.Members, func(m store.Member) bool { return m.ID == h.cfg.ID && m.Trust == store.TrustLeaf })
			return upgraded && st.State == cluster.Member && voting(servers...)
		})
		for _, w := range up {
			w.must(fmt.Sprintf("/put?key=%s&value=%d", w.cfg.Name, i))
		}
		if i == 0 {
			if h.credentials().Keys.Split || len(h.onDisk(all)) < 2 {
				t.Fatal("keys were taken away while old agents need them")
			}
		}
	}
	s.await("all keys are changed", patience, func() bool {
		for _, h := range servers {
			if c := h.credentials(); !c.Keys.Split || c.Keys.Epoch < shared.Epoch+4 || c.Keys.Phase != store.PhaseNone {
				return false
			}
		}
		return voting(servers...)
	})
	client.start()
	s.await("who was away has followed", patience, func() bool { return formed(3, first...) && client.credentials().Keys.Split })
	client.must("/put?key=back&value=1")
	fresh := secretsOf(servers[0])
	for name, secret := range all {
		fresh["old "+name] = secret
	}
	if found := client.onDisk(fresh); len(found) > 0 {
		t.Errorf("a client has %v after the upgrade", found)
	}
	client.leastRights(servers[0])
	for name, token := range map[string]string{"management": all["management token 0"], "shared": shared.ConsulToken.Reveal(), "agent": shared.AgentToken.Reveal()} {
		s.await("the former "+name+" token is worthless", patience, func() bool {
			code, _ := servers[0].calls(token, "GET", "/v1/acl/token/self", "")
			return code == http.StatusForbidden
		})
	}
	s.onlyTokens(servers[0], first)
	// A host of the former kind is told what to do; upgraded, it joins.
	last := hosts[4]
	last.cfg.Former = true
	last.start()
	s.await("a host with an old agent is told to upgrade", patience, func() bool { return strings.Contains(last.status().Trouble, "upgrade") })
	last.kill()
	last.cfg.Former = false
	last.start()
	s.await("five servers", patience, func() bool { return formed(5, hosts...) })
}

// onlyTokens demands that Consul knows one management token and a token of each host, and no more.
func (s *segment) onlyTokens(server *host, hosts []*host) {
	s.t.Helper()
	s.await("Consul has no tokens but those that are needed", patience, func() bool {
		var tokens []struct{ Description string }
		_, text := server.calls(server.credentials().Keys.ManagementToken().Reveal(), "GET", "/v1/acl/tokens", "")
		if err := json.Unmarshal([]byte(text), &tokens); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		return len(tokens) == len(hosts)+2 // and the anonymous one
	})
}
