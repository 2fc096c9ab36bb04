package cli_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/version"
)

var update = flag.Bool("update", false, "write the golden files")

// result is what a user sees of a run.
type result struct {
	code           int
	stdout, stderr string
}

// run runs a command line as main does, with this environment only.
func run(t *testing.T, env map[string]string, agent func(context.Context, config.Config) error, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := cli.Run(t.Context(), cli.Deps{
		Stdout: &stdout, Stderr: &stderr, RunAgent: agent,
		Env:     func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		Version: version.Info{Version: "v0.1.0", Commit: "0123456789abcdef-dirty", Go: "go1.26.8", Platform: "linux/amd64"},
	}, args)
	return result{code, stdout.String(), stderr.String()}
}

// golden compares with a file in testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (make it with -update)", err)
	}
	if got != string(want) {
		t.Errorf("%s differs (accept with -update); got:\n%s", path, got)
	}
}

type answers adminapi.Info

func (a answers) Info(context.Context) (adminapi.Info, error) { return adminapi.Info(a), nil }
func (answers) Ready(context.Context) error                   { return nil }

// serve serves an agent's answers on a real socket.
func serve(t *testing.T, info adminapi.Info) string { return serveAgent(t, answers(info)) }

func serveAgent(t *testing.T, a adminapi.Agent) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- adminapi.Serve(ctx, l, adminapi.Handler(a), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

func healthy() adminapi.Info {
	return adminapi.Info{
		Version: "v0.1.0", Commit: "0123456789abcdef", Go: "go1.26.8", Started: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Host: adminapi.Host{ID: "7f3a9c0e5b6d4e1f8a2b", Name: "alpha", VTEP: netip.MustParseAddr("192.0.2.11"),
			Underlay: "eth0", MTU: 1500},
		Store: adminapi.Store{Kind: "consul", Address: "http://127.0.0.1:8500"},
		OVS:   adminapi.OVS{Version: "3.1.0", Datapath: "netdev", Tunnel: "kernel", Bridge: "socketplane0", TSO: true},
		Networks: []adminapi.Network{
			{ID: "4b0d1c2e3f4a5b6c7d8e", Name: "web", VNI: 4097, Pools: prefixes("10.1.0.0/24"), Endpoints: 3, Peers: 1},
			{ID: "5c0d1c2e3f4a5b6c7d8e", Name: "a-network-with-a-very-long-name", VNI: 16777215,
				Pools: prefixes("192.168.128.0/24", "fd00:1:2:3::/64"), Endpoints: 1000, Peers: 999},
			{ID: "6d0d1c2e3f4a5b6c7d8e", VNI: 5},
		},
		Hosts: []adminapi.Member{
			{ID: "7f3a9c0e5b6d4e1f8a2b", Name: "alpha", VTEP: netip.MustParseAddr("192.0.2.11"), Alive: true},
			{ID: "8e3a9c0e5b6d4e1f8a2b", Name: "beta.example.org", VTEP: netip.MustParseAddr("2001:db8::12")},
		},
	}
}

func alone() adminapi.Info {
	return adminapi.Info{
		Version: "v0.1.0", Commit: "unknown", Go: "go1.26.8", Started: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Host:  adminapi.Host{ID: "7f3a9c0e5b6d", Name: "evil\x1b[2Jname"},
		Store: adminapi.Store{Kind: "bolt", Address: "/var/lib/socketplane/cluster.db", Alone: true},
		OVS: adminapi.OVS{Error: "Open vSwitch does not answer at unix:/run/openvswitch/db.sock: " +
			"start it with 'systemctl start openvswitch-switch'"},
	}
}

func prefixes(all ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestOutput(t *testing.T) {
	tests := []struct {
		name, golden string
		info         adminapi.Info
		args         []string
	}{
		{"info", "info.txt", healthy(), []string{"info"}},
		{"info of a lone host in trouble", "info-alone.txt", alone(), []string{"info", "--format", "table"}},
		{"info as JSON", "info.json", healthy(), []string{"info", "--format=json"}},
		{"info of a lone host as JSON", "info-alone.json", alone(), []string{"info", "--format=json"}},
		{"version", "version.txt", healthy(), []string{"version"}},
		{"version as JSON", "version.json", healthy(), []string{"version", "--format", "json"}},
		{"help", "help.txt", healthy(), []string{"help"}},
		{"help of agent", "help-agent.txt", healthy(), []string{"agent", "--help"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := map[string]string{"SOCKETPLANE_ADMIN_SOCKET": serve(t, tt.info), "TERM": "xterm"}
			got := run(t, env, nil, tt.args...)
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

func TestErrors(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "no.sock")
	tests := []struct {
		name   string
		env    map[string]string
		args   []string
		code   int
		stderr string
	}{
		{"unknown command", nil, []string{"inof"}, cli.ExitUsage,
			"socketplane: there is no command \"inof\": did you mean \"info\"?\nSee 'socketplane --help'.\n"},
		{"unknown command like no other", nil, []string{"xyzzy"}, cli.ExitUsage,
			"socketplane: there is no command \"xyzzy\"\nSee 'socketplane --help'.\n"},
		{"unknown flag", nil, []string{"info", "--frmat"}, cli.ExitUsage,
			"socketplane: unknown flag: --frmat\nSee 'socketplane info --help'.\n"},
		{"unknown format", nil, []string{"info", "--format", "xml"}, cli.ExitUsage,
			"socketplane: invalid argument \"xml\" for \"--format\" flag: must be table or json\nSee 'socketplane info --help'.\n"},
		{"argument too many", nil, []string{"version", "x"}, cli.ExitUsage,
			"socketplane: unexpected argument \"x\"\nSee 'socketplane version --help'.\n"},
		{"wrong setting", map[string]string{"SOCKETPLANE_TUNNEL": "gre"}, []string{"agent", "--store", "etcd"}, cli.ExitUsage,
			"socketplane: --store: \"etcd\" is not auto, consul, cluster or bolt: set --store or SOCKETPLANE_STORE\n" +
				"socketplane: SOCKETPLANE_TUNNEL: \"gre\" is not auto, ovs or kernel: set --tunnel or SOCKETPLANE_TUNNEL\n" +
				"See 'socketplane agent --help'.\n"},
		{"agent fails", nil, []string{"agent", "--name", "a"}, cli.ExitFailed, "socketplane: bridge is gone\n"},
		{"no agent, and a setting of the agent's wrong", map[string]string{"SOCKETPLANE_TUNNEL": "gre"},
			[]string{"info", "--admin-socket", absent}, cli.ExitUnreachable,
			"socketplane: the agent does not run (no socket at " + absent + "): start it with 'socketplane agent' or " +
				"'systemctl start socketplane'\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			agent := func(context.Context, config.Config) error { return errors.New("bridge is gone") }
			got := run(t, tt.env, agent, tt.args...)
			if want := (result{tt.code, "", tt.stderr}); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestAgentGetsItsSettings(t *testing.T) {
	env := map[string]string{"CONSUL_HTTP_TOKEN": "s", "SOCKETPLANE_STORE": "consul", "SOCKETPLANE_NAME": "alpha"}
	var got config.Config
	r := run(t, env, func(_ context.Context, cfg config.Config) error { got = cfg; return nil }, "agent", "--store=bolt")
	if r != (result{}) {
		t.Errorf("%+v", r)
	}
	if got.Store != config.StoreBolt || got.Name != "alpha" || got.ConsulToken.Reveal() != "s" {
		t.Errorf("agent got %+v", got)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if got := run(t, nil, nil, "completion", shell); got.code != cli.ExitOK || !strings.Contains(got.stdout, "socketplane") {
			t.Errorf("%s: %d %s", shell, got.code, got.stderr)
		}
	}
	got := run(t, nil, nil, "__complete", "info", "--format", "")
	if want := fmt.Sprintf("table\njson\n:%d\n", 4); got.stdout != want { // 4 is "no files"
		t.Errorf("--format completes to %q, want %q", got.stdout, want)
	}
}
