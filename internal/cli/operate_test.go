package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/version"
)

// cluster is an agent with a small cluster in memory. A network that is created is there at once; one that is removed
// goes, unless containers use it.
type cluster struct {
	answers
	mu        sync.Mutex
	networks  []adminapi.NetworkDetail
	endpoints []adminapi.Endpoint
	checks    []adminapi.Check
	requests  []adminapi.NetworkRequest
	removed   []string // hosts
}

func (c *cluster) Networks(_ context.Context, each func(adminapi.NetworkDetail) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.networks {
		if err := each(n); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) Network(_ context.Context, name string) (adminapi.NetworkDetail, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, is := range []func(adminapi.NetworkDetail) bool{
		func(n adminapi.NetworkDetail) bool { return n.Name == name },
		func(n adminapi.NetworkDetail) bool { return strings.HasPrefix(n.ID, name) },
	} {
		if i := slices.IndexFunc(c.networks, is); i >= 0 {
			return c.networks[i], nil
		}
	}
	return adminapi.NetworkDetail{}, fmt.Errorf("%w: the cluster has no network %s: see 'socketplane network ls'", adminapi.ErrNotFound, name)
}

func (c *cluster) CreateNetwork(_ context.Context, r adminapi.NetworkRequest) (adminapi.NetworkDetail, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.networks {
		if n.Name == r.Name {
			return n, fmt.Errorf("%w: the cluster has a network %s already", adminapi.ErrConflict, r.Name)
		}
	}
	c.requests = append(c.requests, r)
	n := adminapi.NetworkDetail{ID: "a new id", Name: r.Name, Pools: r.Subnets, State: "active"}
	c.networks = append(c.networks, n)
	return n, nil
}

func (c *cluster) RemoveNetwork(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.networks {
		if n.ID == name && n.Endpoints > 0 {
			return fmt.Errorf("%w: network %s is used by containers on alpha: remove or disconnect these first", adminapi.ErrConflict, n.Name)
		}
	}
	c.networks = slices.DeleteFunc(c.networks, func(n adminapi.NetworkDetail) bool { return n.ID == name })
	return nil
}

func (c *cluster) AttachNetwork(_ context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, n := range c.networks {
		if n.ID == name {
			c.networks[i].Hosts[0].State = "present"
			return nil
		}
	}
	return fmt.Errorf("%w: the cluster has no network %s", adminapi.ErrNotFound, name)
}

func (c *cluster) RemoveHost(_ context.Context, name string) error {
	if name != "beta.example.org" {
		return fmt.Errorf("%w: the agent of host %s is up: stop it there first", adminapi.ErrConflict, name)
	}
	c.removed = append(c.removed, name)
	return nil
}

func (c *cluster) Endpoints(_ context.Context, network string, each func(adminapi.Endpoint) error) error {
	for _, e := range c.endpoints {
		if network == "" || e.Network == network || e.NetworkID == network {
			if err := each(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cluster) Inspect(ctx context.Context, name string, each func(adminapi.Endpoint) error) (adminapi.NetworkDetail, error) {
	n, err := c.Network(ctx, name)
	if err == nil {
		err = c.Endpoints(ctx, n.ID, each)
	}
	return n, err
}

func (c *cluster) Doctor(context.Context) ([]adminapi.Check, error) { return c.checks, nil }

func busy() *cluster {
	hosts := func(first string, endpoints int) []adminapi.NetworkHost {
		return []adminapi.NetworkHost{
			{ID: "7f3a9c0e5b6d4e1f8a2b", Name: "alpha", State: first, DockerID: "d0c1", Endpoints: endpoints, Alive: true},
			{ID: "8e3a9c0e5b6d4e1f8a2b", Name: "beta.example.org", State: "absent"},
		}
	}
	return &cluster{
		answers: answers(healthy()),
		networks: []adminapi.NetworkDetail{
			{ID: "5c0d1c2e3f4a5b6c7d8e", Name: "a-network-with-a-very-long-name", VNI: 16777215, Shared: true, State: "active",
				Pools: prefixes("192.168.128.0/24", "fd00:1:2:3::/64"), IPv6: true, MTU: 1400, Internal: true, Hosts: hosts("away", 0),
				Trouble: "this host has a network of that name with driver bridge: 'docker network rm' lets the cluster's come"},
			{ID: "7d0d1c2e3f4a5b6c7d8e", Name: "old", VNI: 6, State: "deleting", Shared: true, Pools: prefixes("10.9.0.0/24"), Hosts: hosts("present", 0)},
			{ID: "4b0d1c2e3f4a5b6c7d8e", Name: "web", VNI: 4097, Shared: true, State: "active", Pools: prefixes("10.1.0.0/24"),
				Labels: map[string]string{"tier": "front", "owner": "me"}, Hosts: hosts("present", 2), Endpoints: 2,
				Addresses: []adminapi.AddressUse{
					{Pool: netip.MustParsePrefix("10.1.0.0/24"), Host: "network", HandedOut: 1},
					{Pool: netip.MustParsePrefix("10.1.0.0/24"), Host: "7f3a9c0e5b6d4e1f8a2b", Name: "alpha", HandedOut: 2, Static: 1, Resting: 3, Spare: 4, Here: true},
					{Pool: netip.MustParsePrefix("10.1.0.0/24"), Host: "8e3a9c0e5b6d4e1f8a2b", Name: "beta.example.org", HandedOut: 5, Static: 2, Resting: 7, Spare: 4},
				}},
			{ID: "6d0d1c2e3f4a5b6c7d8e", VNI: 5, State: "active", Hosts: hosts("present", 0)},
		},
		endpoints: []adminapi.Endpoint{
			{ID: "e1d1c2e3f4a5b6c7d8e", Network: "web", NetworkID: "4b0d1c2e3f4a5b6c7d8e", Host: "alpha", HostID: "7f3a9c0e5b6d4e1f8a2b",
				MAC: "02:42:0a:01:00:02", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1:2:3::2")},
				Container: "shop-front-1", ContainerID: "c0ffee1c2e3f4a5b6c7d8e", Aliases: []string{"front"},
				Labels: map[string]string{"com.docker.compose.service": "front"}},
			{ID: "e2d1c2e3f4a5b6c7d8e", Network: "web", NetworkID: "4b0d1c2e3f4a5b6c7d8e", Host: "beta.example.org", HostID: "8e3a9c0e5b6d4e1f8a2b",
				MAC: "02:42:0a:01:00:03", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.3")}},
		},
		checks: []adminapi.Check{
			{Name: "Open vSwitch", State: adminapi.CheckOK, Text: "3.1.0, datapath netdev, tunnel kernel, 21 flows"},
			{Name: "kernel module", State: adminapi.CheckWarn, Text: "the kernel has no openvswitch: packets are forwarded in user space, which is slower",
				Cure: "modprobe openvswitch"},
			{Name: "way to beta", State: adminapi.CheckBad, Text: "UDP port 4789 of 192.0.2.12 is refused: no tunnel ends there", Cure: "let UDP 4789 through"},
		},
	}
}

// operated runs a command line against the cluster; what it would execute is in the result's standard output.
func operated(t *testing.T, c *cluster, args ...string) result {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- adminapi.Serve(ctx, l, adminapi.Handler(c), slog.New(slog.DiscardHandler)) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	var stdout, stderr bytes.Buffer
	code := cli.Run(t.Context(), cli.Deps{
		Stdout: &stdout, Stderr: &stderr, Version: version.Info{Version: "v0.1.0"},
		Env: func(name string) (string, bool) { return path, name == "SOCKETPLANE_ADMIN_SOCKET" },
		Exec: func(argv []string) error {
			fmt.Fprintf(&stdout, "%q\n", argv)
			return nil
		},
	}, args)
	return result{code, stdout.String(), stderr.String()}
}

func TestOperatorsOutput(t *testing.T) {
	tests := []struct {
		golden string
		args   []string
	}{
		{"network-ls.txt", []string{"network", "ls"}},
		{"network-ls.txt", []string{"network", "list"}},
		{"network-ls-quiet.txt", []string{"network", "ls", "-q"}},
		{"network-ls.json", []string{"network", "ls", "--format", "json"}},
		{"network-inspect.txt", []string{"network", "inspect", "web"}},
		{"network-inspect.txt", []string{"network", "info", "4b0d"}},
		{"network-inspect-trouble.txt", []string{"network", "inspect", "a-network-with-a-very-long-name"}},
		{"network-inspect.json", []string{"network", "inspect", "web", "--format", "json"}},
		{"host-ls.txt", []string{"host", "ls"}},
		{"host-ls.json", []string{"host", "ls", "--format", "json"}},
		{"host-inspect.txt", []string{"host", "inspect", "alpha"}},
		{"host-inspect.json", []string{"host", "inspect", "alpha", "--format", "json"}},
		{"host-ls-quiet.txt", []string{"host", "list", "--quiet"}},
		{"host-inspect.txt", []string{"host", "info", "7f3a"}},
		{"host-rm.txt", []string{"host", "rm", "beta.example.org"}},
		{"host-rm.json", []string{"host", "delete", "beta.example.org", "--format", "json"}},
		{"network-create.txt", []string{"network", "create", "db", "10.2.0.0/16"}},
		{"network-create.json", []string{"network", "create", "db", "10.2.0.0/16", "--format", "json"}},
		{"network-attach.txt", []string{"network", "attach", "a-network-with-a-very-long-name"}},
		{"network-attach.json", []string{"network", "attach", "a-network-with-a-very-long-name", "--format", "json"}},
		{"network-rm.txt", []string{"network", "rm", "old"}},
		{"network-rm.txt", []string{"network", "delete", "old"}},
		{"network-rm.json", []string{"network", "rm", "old", "--format", "json"}},
		{"run.txt", []string{"run", "-n", "web", "-itd", "ubuntu"}},
		{"endpoint-ls.txt", []string{"endpoint", "ls"}},
		{"endpoint-ls.txt", []string{"endpoint", "list"}},
		{"endpoint-ls-quiet.txt", []string{"endpoint", "ls", "-q", "-n", "web"}},
		{"endpoint-ls.json", []string{"endpoint", "ls", "--network", "web", "--format", "json"}},
		{"info-container.txt", []string{"info", "shop-front-1"}},
		{"info-container.json", []string{"info", "c0ffee", "--format", "json"}},
		{"help-network.txt", []string{"network"}},
		{"help-network-create.txt", []string{"network", "create", "--help"}},
		{"help-run.txt", []string{"run", "--help"}},
		{"help-doctor.txt", []string{"doctor", "--help"}},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, "_"), func(t *testing.T) {
			got := operated(t, busy(), tt.args...)
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

func TestDoctor(t *testing.T) {
	for file, args := range map[string][]string{
		"doctor.txt": {"doctor"}, "doctor.json": {"doctor", "--format=json"}, "doctor-quiet.txt": {"doctor", "--quiet"},
	} {
		got := operated(t, busy(), args...)
		if want := "socketplane: 1 thing is wrong with this host\n"; got.code != cli.ExitFailed || got.stderr != want {
			t.Errorf("%s: exit code %d, stderr %q", file, got.code, got.stderr)
		}
		golden(t, file, got.stdout)
	}
}

func TestOperations(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want result
	}{
		{"create", []string{"network", "create", "db", "10.2.0.0/16"}, result{0, "db\n", ""}},
		{"create quietly", []string{"network", "create", "-q", "db"}, result{}},
		{"create what is there", []string{"network", "create", "web"},
			result{cli.ExitFailed, "", "socketplane: the cluster has a network web already\n"}},
		{"create without a name", []string{"network", "create"},
			result{cli.ExitUsage, "", "socketplane: the network's name is missing\nSee 'socketplane network create --help'.\n"}},
		{"create with a wrong subnet", []string{"network", "create", "db", "10.2.0.0"},
			result{cli.ExitUsage, "", "socketplane: \"10.2.0.0\" is not a subnet\nSee 'socketplane network create --help'.\n"}},
		{"remove", []string{"network", "rm", "old"}, result{0, "old\n", ""}},
		{"remove in the old spelling", []string{"network", "delete", "old"}, result{0, "old\n", ""}},
		{"remove what is used, and what is not there", []string{"network", "rm", "web", "nope", "old"}, result{cli.ExitNotFound, "old\n",
			"socketplane: network web is used by containers on alpha: remove or disconnect these first\n" +
				"socketplane: the cluster has no network nope: see 'socketplane network ls'\n"}},
		{"remove what is not there, for programs", []string{"network", "rm", "nope", "old", "--format", "json"}, result{cli.ExitNotFound,
			"{\n  \"removed\": [\n    \"old\"\n  ],\n  \"schema\": 1\n}\n", "socketplane: the cluster has no network nope: see 'socketplane network ls'\n"}},
		{"remove quietly", []string{"network", "rm", "-q", "--format", "json", "old"}, result{}},
		{"attach quietly", []string{"network", "attach", "-q", "a-network-with-a-very-long-name"}, result{}},
		{"forget a host quietly", []string{"host", "rm", "-q", "beta.example.org"}, result{}},
		{"inspect what is not there", []string{"network", "inspect", "nope"}, result{cli.ExitNotFound, "",
			"socketplane: the cluster has no network nope: see 'socketplane network ls'\n"}},
		{"attach", []string{"network", "attach", "a-network-with-a-very-long-name"}, result{0, "a-network-with-a-very-long-name\n", ""}},
		{"forget a host", []string{"host", "rm", "beta.example.org"}, result{0, "beta.example.org\n", ""}},
		{"forget a host that is up", []string{"host", "rm", "alpha"},
			result{cli.ExitFailed, "", "socketplane: the agent of host alpha is up: stop it there first\n"}},
		{"a container that is not there", []string{"info", "nope"}, result{cli.ExitNotFound, "",
			"socketplane: no container nope is on a network of SocketPlane: see 'socketplane endpoint ls'\n"}},
		{"run on a network", []string{"run", "-n", "web", "-itd", "ubuntu"},
			result{0, `["docker" "run" "--network" "web" "-itd" "ubuntu"]` + "\n", ""}},
		{"run on the first network", []string{"run", "--rm", "alpine", "ping", "-n", "x"},
			result{0, `["docker" "run" "--network" "socketplane" "--rm" "alpine" "ping" "-n" "x"]` + "\n", ""}},
		{"run nothing", []string{"run", "-n", "web"},
			result{cli.ExitUsage, "", "socketplane: the image is missing\nSee 'socketplane run --help'.\n"}},
		{"unknown subcommand", []string{"network", "lst"},
			result{cli.ExitUsage, "", "socketplane: there is no command \"lst\": did you mean \"ls\"?\nSee 'socketplane network --help'.\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := operated(t, busy(), tt.args...); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

// TestCreateAsksForAll holds that what the command line takes is what the agent gets.
func TestCreateAsksForAll(t *testing.T) {
	c := busy()
	got := operated(t, c, "network", "create", "--internal", "--ipv6", "--mtu", "1400", "--ip-range", "10.3.1.0/24", "--gateway", "10.3.0.9",
		"--aux-address", "router=10.3.0.5", "--label", "a=b=c", "-o", "mtu=1400", "db", "10.3.0.0/16", "fd00:3::/64")
	if got.code != 0 || len(c.requests) != 1 {
		t.Fatalf("%+v, %d requests", got, len(c.requests))
	}
	r := c.requests[0]
	if text := fmt.Sprintf("%+v", r); text != "{Name:db Subnets:[10.3.0.0/16 fd00:3::/64] Ranges:[10.3.1.0/24] Gateways:[10.3.0.9] "+
		"Aux:map[router:10.3.0.5] IPv6:true Internal:true MTU:0 Labels:map[a:b=c] Options:map[mtu:1400]}" {
		t.Error(text)
	}
}

// TestErrorsOfOldAgents: an agent that answers questions only says so in a sentence.
func TestErrorsOfOldAgents(t *testing.T) {
	env := map[string]string{"SOCKETPLANE_ADMIN_SOCKET": serve(t, healthy())}
	got := run(t, env, nil, "network", "ls")
	if got.code == cli.ExitOK || strings.Count(got.stderr, "\n") != 1 || !strings.Contains(got.stderr, "does not know GET /v1/networks") {
		t.Errorf("%+v", got)
	}
}

// TestNameBeforeID: a container's name is not taken for the beginning of another one's ID, as Docker does it.
func TestNameBeforeID(t *testing.T) {
	c := busy()
	c.endpoints = []adminapi.Endpoint{
		{ID: "e1", Container: "other", ContainerID: "db0fee1c2e3f4a5b6c7d8e"},
		{ID: "e2", Container: "db", ContainerID: "a0ffee1c2e3f4a5b6c7d8e"},
	}
	for args, want := range map[string]string{"db": "a0ffee", "db0": "db0fee", "a0ffee1c2e3f4a5b6c7d8e": "a0ffee"} {
		got := operated(t, c, "info", args, "--format", "json")
		if got.code != 0 || strings.Count(got.stdout, `"container_id"`) != 1 || !strings.Contains(got.stdout, `"container_id": "`+want) {
			t.Errorf("info %s: %+v", args, got)
		}
	}
}
