package cli_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cli"
)

// member is an agent in a cluster. A change goes through the states that it is given, one for each question.
type member struct {
	answers
	mu      sync.Mutex
	status  adminapi.ClusterStatus
	ahead   []adminapi.ClusterSummary
	refuses error
	asked   []string
	tokens  []adminapi.Token
}

func (m *member) say(format string, args ...any) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, fmt.Sprintf(format, args...))
	return m.refuses
}

func (m *member) Cluster(context.Context) (adminapi.ClusterStatus, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ahead) > 0 && len(m.asked) > 0 {
		m.status.ClusterSummary, m.ahead = m.ahead[0], m.ahead[1:]
	}
	return m.status, nil
}

func (m *member) InitCluster(_ context.Context, r adminapi.InitRequest) error {
	return m.say("init %v", r.Locked)
}
func (m *member) JoinCluster(_ context.Context, r adminapi.JoinRequest) error {
	return m.say("join %v %s", r.Addresses, r.Token)
}
func (m *member) LeaveCluster(_ context.Context, force bool) error { return m.say("leave %v", force) }
func (m *member) SetLocked(_ context.Context, locked bool) error   { return m.say("lock %v", locked) }
func (m *member) CreateToken(_ context.Context, r adminapi.TokenRequest) (adminapi.Token, error) {
	t := m.tokens[0]
	t.Text = "sp1." + t.ID + ".5ecre7.4a5b"
	return t, m.say("token %v %d", r.Lifetime, r.Uses)
}
func (m *member) Tokens(context.Context) ([]adminapi.Token, error) { return m.tokens, nil }
func (m *member) RemoveToken(_ context.Context, id string) error {
	if !slices.ContainsFunc(m.tokens, func(t adminapi.Token) bool { return t.ID == id }) {
		return fmt.Errorf("%w: the cluster has no token %s: see 'socketplane cluster token ls'", adminapi.ErrNotFound, id)
	}
	return m.say("rm %s", id)
}

func joining(trouble string) adminapi.ClusterSummary {
	return adminapi.ClusterSummary{State: adminapi.ClusterJoining, Trouble: trouble}
}

const clusterID = "9a3a9c0e5b6d4e1f8a2b"

func inside() *member {
	summary := adminapi.ClusterSummary{ID: clusterID, State: adminapi.ClusterMember, Role: adminapi.RoleServer, Epoch: 1, Servers: 3,
		Foreign: []adminapi.ForeignCluster{{ID: "0b3a9c0e5b6d4e1f8a2b", Hosts: []string{"192.0.2.77:4780", "192.0.2.78:4780"}}}}
	info := healthy()
	info.Store = adminapi.Store{Kind: "cluster"}
	info.Cluster = &summary
	host := func(name, addr, role string, voter bool) adminapi.ClusterMemberInfo {
		return adminapi.ClusterMemberInfo{ID: name + "6d4e1f8a2b", Name: name, Addr: netip.MustParseAddr(addr), Role: role, State: adminapi.ClusterMember,
			Voter: voter, Alive: true, Version: "v0.1.0", Joined: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	}
	m := &member{answers: answers(info), status: adminapi.ClusterStatus{ClusterSummary: summary, Members: []adminapi.ClusterMemberInfo{
		host("alpha", "192.0.2.11", adminapi.RoleServer, true),
		host("beta.example.org", "192.0.2.12", adminapi.RoleServer, true),
		host("a-host-with-a-very-long-name", "192.0.2.113", adminapi.RoleServer, false),
		host("", "2001:db8::14", adminapi.RoleClient, false),
	}}}
	m.status.Members[0].Leader = true
	m.status.Members[2].Version = "v0.1.0-123-g0123456789"
	m.status.Members[3].State, m.status.Members[3].Alive = adminapi.ClusterLeaving, false
	m.tokens = []adminapi.Token{
		{ID: "7k2m9q", Created: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Expires: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC), Uses: 3, Used: 1},
		{ID: "p4w8zz", Created: time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)},
	}
	return m
}

// inCluster runs a command line against a member's agent.
func inCluster(t *testing.T, m *member, env map[string]string, args ...string) result {
	t.Helper()
	all := map[string]string{"SOCKETPLANE_ADMIN_SOCKET": serveAgent(t, m), "TERM": "xterm"}
	maps.Copy(all, env)
	return run(t, all, nil, args...)
}

// after is a member that is to be these, one after the other. What it is at the end has its members if it is one.
func after(ahead ...adminapi.ClusterSummary) *member {
	m := inside()
	if last := ahead[len(ahead)-1]; last.State != adminapi.ClusterAlone {
		ahead = append(ahead, m.status.ClusterSummary)
	} else {
		m.status.Members = nil
	}
	m.ahead = ahead
	return m
}

func TestClusterOutput(t *testing.T) {
	outside := inside()
	outside.status = adminapi.ClusterStatus{ClusterSummary: adminapi.ClusterSummary{State: adminapi.ClusterForming,
		Trouble: "host beta.example.org at 192.0.2.12:4780 asks for a token: give one with --join-token-file"}}
	tests := []struct {
		golden string
		agent  *member
		args   []string
	}{
		{"cluster-status.txt", inside(), []string{"cluster", "status"}},
		{"cluster-status.json", inside(), []string{"cluster", "status", "--format", "json"}},
		{"cluster-status-quiet.txt", inside(), []string{"cluster", "status", "-q"}},
		{"cluster-status-forming.txt", outside, []string{"cluster", "status"}},
		{"cluster-members.txt", inside(), []string{"cluster", "members"}},
		{"cluster-members.json", inside(), []string{"cluster", "members", "--format", "json"}},
		{"cluster-members-quiet.txt", inside(), []string{"cluster", "members", "--quiet"}},
		{"cluster-join.json", after(joining("")), []string{"cluster", "join", "b", "--format", "json"}},
		{"cluster-join-without-waiting.json", outside, []string{"cluster", "join", "b", "--wait", "0", "--format", "json"}},
		{"cluster-leave.json", after(adminapi.ClusterSummary{ID: clusterID, State: adminapi.ClusterLeaving}, adminapi.ClusterSummary{State: adminapi.ClusterAlone}),
			[]string{"cluster", "leave", "--format", "json"}},
		{"cluster-lock.json", inside(), []string{"cluster", "lock", "--format", "json"}},
		{"cluster-unlock.json", inside(), []string{"cluster", "unlock", "--format", "json"}},
		{"cluster-token-rm.json", inside(), []string{"cluster", "token", "rm", "7k2m9q", "--format", "json"}},
		{"cluster-token-create.json", inside(), []string{"cluster", "token", "create", "--format", "json"}},
		{"cluster-token-ls.txt", inside(), []string{"cluster", "token", "ls"}},
		{"cluster-token-ls.json", inside(), []string{"cluster", "token", "ls", "--format", "json"}},
		{"info-cluster.txt", inside(), []string{"info"}},
		{"info-cluster.json", inside(), []string{"info", "--format", "json"}},
		{"help-cluster.txt", inside(), []string{"cluster"}},
		{"help-cluster-init.txt", inside(), []string{"cluster", "init", "--help"}},
		{"help-cluster-join.txt", inside(), []string{"cluster", "join", "--help"}},
		{"help-cluster-leave.txt", inside(), []string{"cluster", "leave", "--help"}},
		{"help-cluster-lock.txt", inside(), []string{"cluster", "lock", "--help"}},
		{"help-cluster-token-create.txt", inside(), []string{"cluster", "token", "create", "--help"}},
	}
	for _, tt := range tests {
		t.Run(tt.golden, func(t *testing.T) {
			got := inCluster(t, tt.agent, nil, tt.args...)
			if got.code != cli.ExitOK || got.stderr != "" {
				t.Errorf("exit code %d, stderr %q", got.code, got.stderr)
			}
			golden(t, tt.golden, got.stdout)
			if strings.HasPrefix(tt.golden, "help") || strings.HasSuffix(tt.golden, ".json") {
				return
			}
			for line := range strings.Lines(got.stdout) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
}

func TestClusterChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("sp1.from.file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in := adminapi.ClusterSummary{ID: clusterID, State: adminapi.ClusterMember, Role: adminapi.RoleClient}
	catching := in
	catching.Trouble = "Consul is about to start"
	leaving := adminapi.ClusterSummary{ID: clusterID, State: adminapi.ClusterLeaving}
	alone := adminapi.ClusterSummary{State: adminapi.ClusterAlone}
	refused := alone
	refused.Trouble = "networks web and db of this host have the names of networks there: remove or rename one of each"
	stays := in
	stays.Trouble = "no other host can be a server: 'socketplane cluster leave --force' leaves all the same"
	const members = "member of cluster 9a3a9c0e5b6d as a client\n"
	tests := []struct {
		name    string
		ahead   []adminapi.ClusterSummary
		refuses error
		env     map[string]string
		args    []string
		asked   string
		want    result
	}{
		{name: "join", ahead: []adminapi.ClusterSummary{joining(""), joining("asking 192.0.2.12"), catching, in},
			args: []string{"join", "192.0.2.12", "beta:99"}, asked: "join [192.0.2.12 beta:99] ", want: result{0, members, ""}},
		{name: "join what is heard, quietly", ahead: []adminapi.ClusterSummary{in}, args: []string{"join", "-q"}, asked: "join [] "},
		{name: "join with a file", ahead: []adminapi.ClusterSummary{in}, env: map[string]string{"SOCKETPLANE_JOIN_TOKEN": "sp1.env"},
			args: []string{"join", "--token-file", file, "b"}, asked: "join [b] sp1.from.file", want: result{0, members, ""}},
		{name: "join with a variable", ahead: []adminapi.ClusterSummary{in}, env: map[string]string{"SOCKETPLANE_JOIN_TOKEN": "sp1.env\n"},
			args: []string{"join", "b"}, asked: "join [b] sp1.env", want: result{0, members, ""}},
		{name: "join without waiting", ahead: []adminapi.ClusterSummary{joining("")}, args: []string{"join", "--wait", "0", "b"}, asked: "join [b] "},
		{name: "join with an empty file", args: []string{"join", "--token-file", empty}, want: result{cli.ExitFailed, "",
			"socketplane: there is no token in " + empty + ": 'socketplane cluster token create' on a host of the cluster prints one\n"}},
		{name: "join without its file", args: []string{"join", "--token-file", file + "x"}, want: result{cli.ExitFailed, "",
			"socketplane: the token can't be read: open " + file + "x: no such file or directory\n"}},
		{name: "join is refused", refuses: fmt.Errorf("%w: this host is in cluster 9a3a9c0e5b6d already: 'socketplane cluster leave' it first", adminapi.ErrConflict),
			args: []string{"join", "b"}, asked: "join [b] ",
			want: result{cli.ExitFailed, "", "socketplane: this host is in cluster 9a3a9c0e5b6d already: 'socketplane cluster leave' it first\n"}},
		{name: "join fails later", ahead: []adminapi.ClusterSummary{joining(""), refused}, args: []string{"join", "b"}, asked: "join [b] ",
			want: result{cli.ExitFailed, "", "socketplane: " + refused.Trouble + "\n"}},
		{name: "join takes too long", ahead: []adminapi.ClusterSummary{joining("192.0.2.12:4780 does not answer")}, args: []string{"join", "--wait", "300ms", "b"},
			asked: "join [b] ", want: result{cli.ExitFailed, "", "socketplane: after 300ms not done yet, but it goes on " +
				"(joining: 192.0.2.12:4780 does not answer): see 'socketplane cluster status'\n"}},
		{name: "init", ahead: []adminapi.ClusterSummary{in}, args: []string{"init"}, asked: "init false", want: result{0, members, ""}},
		{name: "init a locked one", ahead: []adminapi.ClusterSummary{in}, args: []string{"init", "--locked"}, asked: "init true", want: result{0, members, ""}},
		{name: "leave", ahead: []adminapi.ClusterSummary{leaving, alone}, args: []string{"leave"}, asked: "leave false",
			want: result{0, "this host is in no cluster\n", ""}},
		{name: "leave by force", ahead: []adminapi.ClusterSummary{alone}, args: []string{"leave", "--force", "-q"}, asked: "leave true"},
		{name: "leave is refused", refuses: fmt.Errorf("%w: containers shop-front-1 and db use networks of the cluster: remove them first", adminapi.ErrConflict),
			args: []string{"leave"}, asked: "leave false",
			want: result{cli.ExitFailed, "", "socketplane: containers shop-front-1 and db use networks of the cluster: remove them first\n"}},
		{name: "leave fails later", ahead: []adminapi.ClusterSummary{leaving, stays}, args: []string{"leave"}, asked: "leave false",
			want: result{cli.ExitFailed, "", "socketplane: " + stays.Trouble + "\n"}},
		{name: "lock", args: []string{"lock"}, asked: "lock true",
			want: result{0, "locked: hosts need a token now, which 'socketplane cluster token create' makes\n", ""}},
		{name: "lock is refused, as JSON", refuses: fmt.Errorf("%w: this host is in no cluster", adminapi.ErrConflict), args: []string{"lock", "--format", "json"},
			asked: "lock true", want: result{cli.ExitFailed, "", "socketplane: this host is in no cluster\n"}},
		{name: "leave as JSON, quietly", ahead: []adminapi.ClusterSummary{alone}, args: []string{"leave", "-q", "--format", "json"}, asked: "leave false"},
		{name: "join fails later, as JSON", ahead: []adminapi.ClusterSummary{joining(""), refused}, args: []string{"join", "b", "--format", "json"},
			asked: "join [b] ", want: result{cli.ExitFailed, "", "socketplane: " + refused.Trouble + "\n"}},
		{name: "unlock quietly", args: []string{"unlock", "-q"}, asked: "lock false"},
		{name: "token create", args: []string{"token", "create"}, asked: "token 24h0m0s 1", want: result{0, "sp1.7k2m9q.5ecre7.4a5b\n", ""}},
		{name: "token create with all", args: []string{"token", "create", "--expires", "0", "--uses", "0"}, asked: "token 0s 0",
			want: result{0, "sp1.7k2m9q.5ecre7.4a5b\n", ""}},
		{name: "token create with less than nothing", args: []string{"token", "create", "--uses", "-1"}, want: result{cli.ExitUsage, "",
			"socketplane: --expires and --uses can't be negative\nSee 'socketplane cluster token create --help'.\n"}},
		{name: "token ls quietly", args: []string{"token", "ls", "-q"}, want: result{0, "7k2m9q\np4w8zz\n", ""}},
		{name: "token rm", args: []string{"token", "rm", "7k2m9q", "nope"}, asked: "rm 7k2m9q", want: result{cli.ExitNotFound, "7k2m9q\n",
			"socketplane: the cluster has no token nope: see 'socketplane cluster token ls'\n"}},
		{name: "the old bind", args: []string{"bind", "eth1"}, want: result{cli.ExitUsage, "", "socketplane: 'cluster bind' is no more: start the agent " +
			"with --advertise and the address of eth1, or set SOCKETPLANE_ADVERTISE\nSee 'socketplane cluster bind --help'.\n"}},
		{name: "unknown", args: []string{"jion"}, want: result{cli.ExitUsage, "",
			"socketplane: there is no command \"jion\": did you mean \"join\"?\nSee 'socketplane cluster --help'.\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := inside()
			m.ahead, m.refuses = tt.ahead, tt.refuses
			if got := inCluster(t, m, tt.env, append([]string{"cluster"}, tt.args...)...); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
			if got := strings.Join(m.asked, "; "); got != tt.asked {
				t.Errorf("the agent was asked %q, want %q", got, tt.asked)
			}
		})
	}
}
