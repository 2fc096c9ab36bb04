package cluster

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/discovery"
	"github.com/socketplane/socketplane/store"
)

// State is what this host is.
type State string

// The states of a host.
const (
	// Forming: it looks for others, and founds a cluster if there are none.
	Forming State = "forming"
	// Founding: it makes a cluster.
	Founding State = "founding"
	// Joining: it is a member, and waits for the cluster to answer for the first time.
	Joining State = "joining"
	// Member: it is in.
	Member State = "member"
	// Leaving: it is about to be out.
	Leaving State = "leaving"
	// Alone: it has left, and waits for an init or a join.
	Alone State = "alone"
)

// Status is what this host is in which cluster.
type Status struct {
	State   State
	Cluster string
	Role    string
	Locked  bool
	Epoch   uint64
	Members []store.Member
	// Leader is the host id of Raft's leader, Voters are those of its voters; only servers know.
	Leader string
	Voters []string
	// Trouble says what keeps the host from the state that it is to have, with the cure; empty if nothing does.
	Trouble string
	Foreign []Foreign
}

// Foreign is another cluster that is heard.
type Foreign struct {
	ID    string
	Hosts []string
}

// Status tells what this host is.
func (c *Cluster) Status() Status {
	c.mu.Lock()
	st, s := c.status, c.session
	c.mu.Unlock()
	creds, rec := c.keeper.Credentials(), c.records.get()
	st.Cluster, st.Locked, st.Epoch, st.Role = creds.Cluster(), creds.Keys.Locked, creds.Keys.Epoch, rec.Role
	st.State = Forming
	switch {
	case rec.Ending:
		st.State = Leaving
	case st.Cluster == "" && rec.Alone:
		st.State = Alone
	case st.Cluster == "":
	case rec.Founder:
		st.State = Founding
	case rec.Leaving:
		st.State = Leaving
	default:
		st.State = Joining
	}
	if s != nil {
		s.mu.Lock()
		if st.State == Joining && s.entered {
			st.State = Member
		}
		st.Members, st.Leader, st.Voters = slices.Clone(s.members), s.leader, slices.Clone(s.voters)
		s.mu.Unlock()
	}
	st.Foreign = foreign(c.disco.Peers(), st.Cluster)
	return st
}

// foreign are the clusters that are heard, but for our own.
func foreign(peers []discovery.Peer, own string) []Foreign {
	byID := map[string][]string{}
	for _, p := range peers {
		if p.State == discovery.Member && p.Cluster != own {
			byID[p.Cluster] = append(byID[p.Cluster], hostPort(p.Addr, p.Port))
		}
	}
	var out []Foreign
	for id, hosts := range byID {
		slices.Sort(hosts)
		out = append(out, Foreign{ID: id, Hosts: hosts})
	}
	slices.SortFunc(out, func(a, b Foreign) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// troubleSteady is for how long nothing must be wrong for the next trouble to be a new one.
const troubleSteady = 30 * time.Second

// trouble notes what is wrong, and logs it once for each cause.
func (c *Cluster) trouble(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Trouble = err.Error()
	c.told.Note(err)
}

// fine says that nothing is wrong any more.
func (c *Cluster) fine() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Trouble = ""
	c.told.Note(nil)
}

// Raft asks who leads and who votes, as host ids; nothing while nobody can tell.
func (c *Cluster) Raft(ctx context.Context) (leader string, voters map[string]bool) {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	voters = map[string]bool{}
	if s == nil {
		return "", voters
	}
	peers, err := s.op.raft(ctx)
	if err != nil {
		return "", voters
	}
	byID := map[string]raftPeer{}
	for _, p := range peers {
		byID[p.id] = p
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		p := byID[raftID(m.ID)]
		voters[m.ID] = p.voter
		if p.leader {
			leader = m.ID
		}
	}
	return leader, voters
}
