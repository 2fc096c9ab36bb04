package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/discovery"
	"github.com/socketplane/socketplane/store"
)

// TestDecide: what a host without a cluster does, as "do cluster".
func TestDecide(t *testing.T) {
	peer := func(text string) discovery.Peer { // "id state cluster"
		f := strings.Fields(text + " ")
		p := discovery.Peer{Announcement: discovery.Announcement{Host: f[0], Name: f[0], State: discovery.State(f[1]),
			Addr: netip.MustParseAddr("10.0.0.1"), Port: 4780}}
		if len(f) > 2 {
			p.Cluster = f[2]
		}
		return p
	}
	for _, c := range []struct {
		name  string
		since time.Duration
		peers []string
		join  bool
		token bool
		alone bool
		want  string
	}{
		{name: "just-started", want: "wait"},
		{name: "nobody-there", since: listenTime, want: "found"},
		{name: "least-of-candidates", since: listenTime, peers: []string{"n candidate", "z candidate"}, want: "found"},
		{name: "not-the-least", since: time.Hour, peers: []string{"a candidate", "z candidate"}, want: "wait"},
		{name: "somebody-founds", since: time.Hour, peers: []string{"z founding c1", "a candidate"}, want: "wait"},
		{name: "a-cluster", peers: []string{"a member c1", "b candidate"}, want: "ask c1"},
		{name: "a-cluster-and-a-founder", since: time.Hour, peers: []string{"a member c1", "b founding c2"}, want: "ask c1"},
		{name: "two-members", peers: []string{"a member c1", "b member c1"}, want: "ask c1"},
		{name: "two-clusters", since: time.Hour, peers: []string{"a member c1", "b member c2"}, want: "wait"},
		{name: "told-whom-to-ask", since: time.Hour, join: true, want: "ask"},
		{name: "told-whom-to-ask-and-hears-others", join: true, peers: []string{"a member c1"}, want: "ask"},
		{name: "token-but-no-cluster", since: time.Hour, token: true, want: "wait"},
		{name: "token-and-a-cluster", token: true, peers: []string{"a member c1"}, want: "ask c1"},
		{name: "left", since: time.Hour, alone: true, peers: []string{"a member c1"}, want: "wait"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := sight{self: "m", since: c.since, join: c.join, token: c.token, alone: c.alone}
			for _, p := range c.peers {
				s.peers = append(s.peers, peer(p))
			}
			m := decide(s)
			got := strings.TrimSpace([]string{"wait", "ask", "found"}[m.do] + " " + m.cluster)
			if got != c.want {
				t.Errorf("decide = %q (%s), want %q", got, m.why, c.want)
			}
			if (m.do == wait) != (m.why != "") {
				t.Errorf("%q is said of %q", m.why, got)
			}
		})
	}
}

// TestPlanRoles: who becomes what. Members are written as name, role (S or C), state (+ up, - silent, x lost), v if it votes, l if it
// leaves, in the order in which they joined; the first in brackets leads.
func TestPlanRoles(t *testing.T) {
	for _, c := range []struct{ name, members, want string }{
		{"one", "[a]S+v", ""},
		{"two", "[a]S+v bC+", ""},
		{"three", "[a]S+v bC+ cC+", "b:server c:server"},
		{"three-but-one-lost", "[a]S+v bC+ cCx", ""},
		{"three-but-one-silent", "[a]S+v bC+ cC-", ""},
		{"four", "[a]S+v bS+v cS+v dC+", ""},
		{"five", "[a]S+v bS+v cS+v dC+ eC+", "d:server e:server"},
		{"five-but-one-lost", "[a]S+v bS+v cS+v dC+ eCx", ""},
		{"seven", "[a]S+v bS+v cS+v dS+v eS+v fC+ gC+", ""},
		{"a-server-is-silent", "[a]S+v bS+v cS-v dC+", ""},
		{"a-server-is-lost", "[a]S+v bS+v cSxv dC+", "d:server"},
		{"a-server-is-lost-and-its-heir-catches-up", "[a]S+v bS+v cSxv dS+", ""},
		{"a-server-is-lost-and-its-heir-votes", "[a]S+v bS+v cSxv dS+v", "c:client"},
		{"a-server-is-back-before-its-heir-votes", "[a]S+v bS+v cS+v dS+", "d:client"},
		{"a-server-is-lost-and-nobody-is-free", "[a]S+v bS+v cSxv", ""},
		{"a-server-is-lost-and-two-are-free", "[a]S+v bS+v cSxv dC+ eC+", "d:server"},
		{"a-server-is-lost-and-one-of-two-heirs-catches-up", "[a]S+v bS+v cSxv dS+ eC+", ""},
		{"back-to-two", "[a]S+v bS+v", "b:client"},
		{"back-to-four", "[a]S+v bS+v cS+v dS+v", "d:client"},
		{"a-leaving-leader-of-two", "[a]S+vl bC+", "b:server"},
		{"a-leaving-leader-whose-heir-catches-up", "[a]S+vl bS+", ""},
		{"a-leaving-leader-whose-heir-votes", "[a]S+vl bS+v", "a:client"},
		{"a-leaving-server-of-four", "[a]S+v bS+vl cS+v dC+", "d:server"},
		{"a-leaving-server-of-four-replaced", "[a]S+v bS+vl cS+v dS+v", "b:client"},
		{"two-leave-of-three", "[a]S+v bS+vl cS+vl", "b:client c:client"},
		{"all-leave", "[a]S+vl bC+l", ""},
		{"the-leader-joined-last", "aC+ bC+ [c]S+v", "a:server b:server"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := roleView{lost: map[string]bool{}, up: map[string]bool{}, voters: map[string]bool{}}
			for i, text := range strings.Fields(c.members) {
				id := strings.Trim(text[:strings.IndexAny(text, "SC")], "[]")
				rest := text[strings.IndexAny(text, "SC"):]
				m := store.Member{ID: id, Role: store.RoleClient, Joined: time.Unix(int64(i), 0)}
				if text[0] == '[' {
					v.self = id
				}
				if rest[0] == 'S' {
					m.Role = store.RoleServer
				}
				v.up[id], v.lost[id] = rest[1] == '+', rest[1] == 'x'
				v.voters[id] = strings.Contains(rest, "v")
				if strings.Contains(rest, "l") {
					m.State = store.StateLeaving
				}
				v.members = append(v.members, m)
			}
			want := map[string]string{}
			for _, w := range strings.Fields(c.want) {
				id, role, _ := strings.Cut(w, ":")
				want[id] = role
			}
			if got := planRoles(v); !maps.Equal(got, want) {
				t.Errorf("planRoles = %v, want %v", sorted(got), c.want)
			}
		})
	}
}

func sorted(m map[string]string) (out []string) {
	for k, v := range m {
		out = append(out, fmt.Sprint(k, ":", v))
	}
	slices.Sort(out)
	return out
}

// TestForeignClustersAreBounded: what is logged and remembered of clusters that anybody can make up has a limit.
func TestForeignClustersAreBounded(t *testing.T) {
	before, said := map[string]bool{}, 0
	for i := range 1000 {
		said += len(unheard(before, []Foreign{{ID: "lasting"}, {ID: fmt.Sprint("c", i)}}))
	}
	if said != maxStrange || len(before) != maxStrange || !before["lasting"] {
		t.Errorf("%d said, %d remembered", said, len(before))
	}
}

// TestJoinsAreLookedUpAgain: a host that boots before its name server knows the addresses of --join later.
func TestJoinsAreLookedUpAgain(t *testing.T) {
	asked := 0
	c := &Cluster{log: slog.New(slog.DiscardHandler), opts: Options{
		Join: []string{"h2.example:4780"},
		lookup: func(context.Context, string, string) ([]netip.Addr, error) {
			if asked++; asked < 4 {
				return nil, errors.New("no name server")
			}
			return []netip.Addr{netip.MustParseAddr("10.0.0.2")}, nil
		},
	}}
	s := &session{c: c}
	if err := s.resolveJoins(t.Context()); err == nil || len(s.joins) > 0 {
		t.Errorf("%v, %v", s.joins, err)
	}
	var joined []string
	s.resolveLate(t.Context(), time.Millisecond, func(_ context.Context, addr string) error {
		joined = append(joined, addr)
		return errors.New("not yet")
	})
	if len(s.joins) != 1 || !slices.Equal(joined, []string{"10.0.0.2:4782"}) {
		t.Errorf("known are %v, joined %q", s.joins, joined)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	asked = 0
	s.resolveLate(ended, time.Hour, nil)
	if asked > 0 {
		t.Error("it is looked up after the end")
	}
}
