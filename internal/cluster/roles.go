package cluster

import (
	"cmp"
	"slices"

	"github.com/socketplane/socketplane/store"
)

// roleView is what the leader knows when it gives roles.
type roleView struct {
	self    string // the leader's host
	members []store.Member
	// lost says of which hosts nobody expects anything soon; up which are there now. A host that has just fallen silent is neither.
	lost, up map[string]bool
	// voters are the hosts that vote now.
	voters map[string]bool
}

// serversFor is how many servers a number of hosts has: an odd number, since an even one bears no more losses than the odd one below.
func serversFor(hosts int) int {
	switch {
	case hosts < 3:
		return 1
	case hosts < 5:
		return 3
	default:
		return 5
	}
}

// planRoles returns the members whose role is to change, with the new one. Servers stay servers while they can; a place that is
// free goes to the host that joined first of those that are up.
func planRoles(v roleView) map[string]string {
	staying := slices.DeleteFunc(slices.Clone(v.members), func(m store.Member) bool { return m.State == store.StateLeaving })
	slices.SortStableFunc(staying, func(a, b store.Member) int {
		return cmp.Or(cmp.Compare(v.rank(a), v.rank(b)), a.Joined.Compare(b.Joined), cmp.Compare(a.ID, b.ID))
	})
	want := serversFor(len(staying))
	fit := 0 // hosts that can be servers, before those that only are in name
	for _, m := range staying {
		if v.rank(m) < rankLost {
			fit++
		}
	}
	chosen := map[string]bool{}
	for i, m := range staying {
		// A host that is down is no new server; a server that is down remains one where nobody can take over.
		if i < want && (v.rank(m) < rankLost || m.Role == store.RoleServer) {
			chosen[m.ID] = true
		}
	}
	if all, there := v.servers(staying); fit < want && all < want {
		trim(chosen, staying, max(there, odd(fit)))
	}
	changes := map[string]string{}
	ready := true // those who are to vote do, so that who only votes until then may stop
	for id := range chosen {
		ready = ready && (v.voters[id] || v.lost[id])
	}
	for _, m := range v.members {
		switch {
		case chosen[m.ID] && m.Role != store.RoleServer:
			changes[m.ID] = store.RoleServer
		case !chosen[m.ID] && m.Role == store.RoleServer && ready && len(chosen) > 0:
			changes[m.ID] = store.RoleClient
		}
	}
	return changes
}

// Ranks of hosts for being a server; the least first.
const (
	rankLeader = iota
	rankServer
	rankUp
	rankLost // from here on they can't be new servers
	rankDown
)

func (v roleView) rank(m store.Member) int {
	switch {
	case m.ID == v.self:
		return rankLeader
	case m.Role == store.RoleServer && !v.lost[m.ID]:
		return rankServer
	case v.up[m.ID]:
		return rankUp
	case m.Role == store.RoleServer:
		return rankLost
	default:
		return rankDown
	}
}

// servers counts those that are servers, and those of them that are not lost.
func (v roleView) servers(members []store.Member) (all, there int) {
	for _, m := range members {
		if m.Role != store.RoleServer {
			continue
		}
		all++
		if !v.lost[m.ID] {
			there++
		}
	}
	return all, there
}

// trim keeps the first n of those that were chosen.
func trim(chosen map[string]bool, order []store.Member, n int) {
	for _, m := range order {
		if !chosen[m.ID] {
			continue
		}
		if n <= 0 {
			delete(chosen, m.ID)
		}
		n--
	}
}

// odd is the greatest odd number up to n, 1 at least.
func odd(n int) int { return max(1, n-(n+1)%2) }
