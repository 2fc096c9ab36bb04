package lab_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

func programs(t *testing.T) {
	t.Helper()
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "ethtool", "consul", "nft")
}

// TestHosts starts labs without agents: what later tests build on works, and nothing stays behind.
func TestHosts(t *testing.T) {
	programs(t)
	for name, opts := range map[string]lab.Options{
		"debian_kernel": {Name: "selfk", Hosts: 3, Consul: true, NoAgent: true},
		"debian_ovs":    {Name: "selfo", Hosts: 2, Tunnel: lab.TunnelOVS, NoAgent: true},
		"current":       {Name: "selfc", Hosts: 1, Engine: lab.EngineCurrent, NoAgent: true},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := testenv.Tool("dockerd"); err != nil && opts.Engine == lab.EngineCurrent {
				testenv.Missing(t, err.Error())
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			opts.Log = t.Logf
			l, err := lab.Start(ctx, opts)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			checkUnderlay(ctx, t, l)
			checkContainers(ctx, t, l.Hosts[0])
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			checkNothingLeft(t, opts.Name, l.Dir())
			if err := l.Close(); err != nil {
				t.Fatalf("closed twice: %v", err)
			}
		})
	}
}

func checkUnderlay(ctx context.Context, t *testing.T, l *lab.Lab) {
	t.Helper()
	last := l.Hosts[len(l.Hosts)-1]
	for _, to := range []string{last.Addr.String(), last.Addr6.String(), l.Outside.String(), l.Outside6.String()} {
		if _, err := l.Hosts[0].Exec(ctx, "ping", "-c", "1", "-W", "5", to); err != nil {
			t.Errorf("underlay: %v", err)
		}
	}
	if name, err := last.Exec(ctx, "hostname"); err != nil || strings.TrimSpace(name) != last.Name {
		t.Errorf("host name %q, %v", name, err)
	}
	if l.Consul != nil {
		if _, err := last.Exec(ctx, "busybox", "wget", "-qO-", "http://"+l.Consul.Addr+"/v1/status/leader"); err != nil {
			t.Errorf("consul from %s: %v", last.Name, err)
		}
	}
	// A program that does not end dies with its context, inside the host, too.
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if _, err := last.Exec(short, "sleep", "4242"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a program beyond its deadline: %v", err)
	}
	if out, _ := last.Exec(ctx, "pgrep", "-f", "sleep 4242"); out != "" {
		t.Errorf("it still runs: %s", out)
	}
}

func checkContainers(ctx context.Context, t *testing.T, h *lab.Host) {
	t.Helper()
	for _, run := range [][]string{
		{"run", "--rm", lab.ImageName, "ping", "-c", "1", "-W", "5", h.Addr.String()},
		{"run", "--rm", lab.ImageName, "ping", "-c", "1", "-W", "5", "198.51.100.1"},
		{"run", "--rm", lab.ImageName, "iperf3", "--version"},
		{"run", "--rm", lab.ImageName, "ip", "-d", "link"},
		{"run", "-d", "--name", "server", lab.ImageName, "labprobe", "serve", "-n", "3000000"},
	} {
		if _, err := h.Docker(ctx, run...); err != nil {
			t.Error(err)
		}
	}
	addr, err := h.Docker(ctx, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "server")
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Docker(ctx, "run", "--rm", lab.ImageName, "labprobe", "fetch", "-from", strings.TrimSpace(addr)+":7000")
	if err != nil || !strings.Contains(out, `"bytes":3000000`) {
		t.Errorf("fetch: %v %s", err, out)
	}
}

func checkNothingLeft(t *testing.T, name, dir string) {
	t.Helper()
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), name+"-") {
			t.Errorf("namespace %s is left", e.Name())
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) {
		t.Errorf("a mount is left:\n%s", mounts)
	}
	for _, pid := range processesOf(t, dir) {
		t.Errorf("process %s is left", pid)
	}
}

// processesOf finds processes that have the lab's directory in their command line, or, as its daemons have, among their mounts.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	procs, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, p := range procs {
		line, err := os.ReadFile("/proc/" + p.Name() + "/cmdline")
		if err != nil {
			continue // No process, or one that ended.
		}
		mounts, _ := os.ReadFile("/proc/" + p.Name() + "/mountinfo")
		if strings.Contains(string(line), dir) || strings.Contains(string(mounts), dir) {
			found = append(found, p.Name()+" "+strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

// TestGrowAndPart: a host comes later, hosts in different groups don't reach each other, and a host comes back elsewhere.
func TestGrowAndPart(t *testing.T) {
	programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Name: "selfp", Hosts: 2, Cluster: true, NoAgent: true, NoDocker: true, NoOVS: true, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	late, err := l.AddHost(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// One packet may be late on a busy machine; where none is to pass, one is enough.
	reaches := func(from, to *lab.Host, want bool) bool {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		got := false
		_ = testenv.Poll(ctx, 100*time.Millisecond, func() bool {
			_, err := from.Exec(ctx, "ping", "-c", "1", "-W", "1", to.Addr.String())
			got = err == nil
			return got == want
		})
		return got
	}
	check := func(when string, cut bool) {
		t.Helper()
		for _, from := range l.Hosts {
			for _, to := range l.Hosts {
				if want := !cut || (from == late) == (to == late); reaches(from, to, want) != want {
					t.Errorf("%s: %s reaches %s: %t", when, from.Name, to.Name, !want)
				}
			}
		}
	}
	check("at first", false)
	if err := l.Partition(ctx, l.Hosts[:2], l.Hosts[2:]); err != nil {
		t.Fatal(err)
	}
	check("parted", true)
	if err := l.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	check("healed", false)
	former := late.Addr
	late.Renumber()
	late.Halt()
	if err := late.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	check("renumbered", false)
	if _, err := l.Hosts[0].Exec(ctx, "ping", "-c", "1", "-W", "1", former.String()); err == nil || late.Addr == former {
		t.Errorf("%s is still at %s", late.Name, former)
	}
	if late.Renumber(); late.Addr != former {
		t.Errorf("there and back is %s, was %s", late.Addr, former)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkNothingLeft(t, "selfp", l.Dir())
}

// TestReboot: the disk stays, everything else is new.
func TestReboot(t *testing.T) {
	programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Name: "selfr", NoAgent: true, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	h := l.Hosts[0]
	if _, err := h.Docker(ctx, "run", "-d", "--restart", "always", "--name", "back", lab.ImageName); err != nil {
		t.Fatal(err)
	}
	h.KillDocker()
	if err := h.StartDocker(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.RestartOVS(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.Reboot(ctx); err != nil {
		t.Fatal(err)
	}
	running := func() bool {
		out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Running}}", "back")
		return err == nil && strings.TrimSpace(out) == "true"
	}
	if err := testenv.Poll(ctx, 100*time.Millisecond, running); err != nil {
		t.Fatalf("the container does not come back: %v\n%s", err, h.LogTail("dockerd", 20))
	}
	if _, err := h.Exec(ctx, "ping", "-c", "1", "-W", "5", l.Outside.String()); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	checkNothingLeft(t, "selfr", l.Dir())
}

// TestCrashAgent: exactly the host's own agent dies, also of a lab that another program started, and none is asked for twice.
func TestCrashAgent(t *testing.T) {
	programs(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Name: "selfa", Hosts: 2, NoAgent: true, NoDocker: true, NoOVS: true, Log: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for _, h := range l.Hosts {
		if err := h.StartAgent(ctx); err != nil {
			t.Fatal(err)
		}
	}
	h, other := l.Hosts[0], l.Hosts[1]
	pid := other.AgentPid()
	opened, err := lab.Open("selfa")
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Hosts[0].CrashAgent(ctx); err != nil {
		t.Fatal(err)
	}
	if err := testenv.Poll(ctx, 10*time.Millisecond, func() bool { return !h.AgentRunning() }); err != nil {
		t.Error("the agent still runs")
	}
	if other.AgentPid() != pid || pid == 0 {
		t.Error("the other host's agent was disturbed")
	}
	if err := opened.Hosts[0].CrashAgent(ctx); err == nil || !strings.Contains(err.Error(), "no agent runs on h1") {
		t.Errorf("a host without agent: %v", err)
	}
}
