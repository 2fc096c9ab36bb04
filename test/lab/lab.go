package lab

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
)

// closePatience bounds Close.
const closePatience = time.Minute

// Lab is a running lab. Its methods may be called from any goroutine, those of one Host from one at a time.
type Lab struct {
	Hosts []*Host
	// Consul is the first of Consuls, and nil in a lab without.
	Consul  *Consul
	Consuls []*Consul
	// Outside and Outside6 are beyond every host's default route: they see a host's traffic, and can't reach containers.
	Outside, Outside6 netip.Addr

	mu    sync.Mutex // guards state
	opts  Options
	probe string
	image string
	state state
}

// Start starts a lab; with an error everything is removed again, and the error says which host failed and shows the
// end of the right log. It needs root.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, Outside: outsideAddr, Outside6: outsideAddr6}
	if err := l.claimDir(ctx); err != nil {
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("lab %s: %w", opts.Name, err), l.Close())
	}
	return l, nil
}

// claimDir makes the lab's directory, after what crashed labs left is gone.
func (l *Lab) claimDir(ctx context.Context) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(root, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lab: lock %s: %w", root, err)
	}
	if err := sweep(ctx, l.opts.Log); err != nil {
		return err
	}
	if old, err := load(l.opts.Dir); err == nil {
		l.opts.Log("removing the former lab %s", old.Name)
		if err := old.remove(ctx); err != nil {
			return err
		}
	}
	l.state = state{Name: l.opts.Name, Dir: l.opts.Dir, Detached: l.opts.Detached, Owner: identify(os.Getpid()),
		Engine: l.opts.Engine, Tunnel: l.opts.Tunnel, Cluster: l.opts.Cluster}
	if err := os.MkdirAll(l.opts.Dir, 0o755); err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	return l.state.save()
}

func (l *Lab) start(ctx context.Context) error {
	began := time.Now()
	prepare, prepareCtx := errgroup.WithContext(ctx)
	prepare.Go(func() error { return l.buildUnderlay(prepareCtx) })
	prepare.Go(func() (err error) {
		if l.probe, err = BuildProbe(prepareCtx); err != nil {
			return err
		}
		if !l.opts.NoDocker {
			l.image, err = Image(prepareCtx, l.probe)
		}
		return err
	})
	prepare.Go(func() error { return l.buildAgent(prepareCtx) })
	if err := prepare.Wait(); err != nil {
		return err
	}
	l.opts.Log("underlay, image and programs are ready (%.1f s)", time.Since(began).Seconds())
	for i := range l.opts.Hosts {
		h := newHost(l, i)
		l.Hosts = append(l.Hosts, h)
		l.state.Hosts = append(l.state.Hosts, hostState{Name: h.Name})
	}
	hosts, hostsCtx := errgroup.WithContext(ctx)
	if l.opts.Consul {
		l.addConsuls()
		l.state.Consuls = make([]process, len(l.Consuls))
		for _, c := range l.Consuls {
			hosts.Go(func() error { return c.Start(hostsCtx) })
		}
	}
	for _, h := range l.Hosts {
		hosts.Go(func() error {
			if err := h.boot(hostsCtx, l.image); err != nil {
				return fmt.Errorf("host %s: %w", h.Name, err)
			}
			l.opts.Log("%s runs: Open vSwitch and Docker at %s (%.1f s)", h.Name, h.Addr, time.Since(began).Seconds())
			return nil
		})
	}
	if err := hosts.Wait(); err != nil {
		return err
	}
	if l.opts.NoAgent {
		return nil
	}
	if l.opts.Plugin {
		return l.startPlugins(ctx)
	}
	agents, agentsCtx := errgroup.WithContext(ctx)
	for _, h := range l.Hosts {
		agents.Go(func() error {
			if err := h.StartAgent(agentsCtx); err != nil {
				return err
			}
			return h.WaitReady(agentsCtx)
		})
	}
	if err := agents.Wait(); err != nil {
		return err
	}
	l.opts.Log("the agents run (%.1f s)", time.Since(began).Seconds())
	return nil
}

// AddHost starts one more host, and its agent unless the lab has none. It must not be called twice at once.
func (l *Lab) AddHost(ctx context.Context) (*Host, error) {
	h := newHost(l, len(l.Hosts))
	l.Hosts = append(l.Hosts, h)
	l.mu.Lock()
	l.state.Hosts = append(l.state.Hosts, hostState{Name: h.Name})
	l.mu.Unlock()
	if err := h.boot(ctx, l.image); err != nil {
		return h, fmt.Errorf("host %s: %w", h.Name, err)
	}
	if l.opts.NoAgent {
		return h, nil
	}
	if err := h.StartAgent(ctx); err != nil {
		return h, err
	}
	return h, h.WaitReady(ctx)
}

// Close ends and removes everything of the lab. It may be called again.
func (l *Lab) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	for _, h := range l.Hosts {
		h.Halt()
	}
	for _, c := range l.Consuls {
		c.Stop()
	}
	return l.state.remove(ctx)
}

// Open finds a running detached lab by its name. Daemons that were started before can't be restarted through it, except
// agents and Consul, which can be started when they have ended.
func Open(name string) (*Lab, error) {
	s, err := load(filepath.Join(root, name))
	if err != nil {
		return nil, err
	}
	opts, err := Options{Name: s.Name, Dir: s.Dir, Engine: s.Engine, Tunnel: s.Tunnel, Agent: s.Agent,
		Hosts: len(s.Hosts), Detached: true, Cluster: s.Cluster, Servers: len(s.Consuls)}.complete()
	if err != nil {
		return nil, err
	}
	l := &Lab{opts: opts, state: s, Outside: outsideAddr, Outside6: outsideAddr6}
	for i := range s.Hosts {
		h := newHost(l, i)
		h.opened = s.Hosts[i].Init
		l.Hosts = append(l.Hosts, h)
	}
	if len(s.Consuls) > 0 {
		l.addConsuls()
		for i, c := range l.Consuls {
			c.opened = s.Consuls[i]
		}
	}
	return l, nil
}

// Running says whether the hosts of an opened lab are all alive.
func (l *Lab) Running() bool {
	for _, h := range l.Hosts {
		if h.initPid() == 0 {
			return false
		}
	}
	return len(l.Hosts) > 0
}

// Dir is the lab's directory; each host has a directory of its name in it, with its logs in log.
func (l *Lab) Dir() string { return l.opts.Dir }

func (l *Lab) netns(name string) string { return l.opts.Name + "-" + name }

// buildAgent builds the agent's binary, unless it is given or not wanted.
func (l *Lab) buildAgent(ctx context.Context) (err error) {
	if l.opts.Agent == "" && !l.opts.NoAgent {
		l.opts.Agent, err = BuildAgent(ctx)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Agent = l.opts.Agent
	return err
}

// BuiltVar is the environment variable that names a directory in which Build has built the programs. Labs take them from
// there. It is for places where building takes minutes, such as an emulated machine.
const BuiltVar = "SOCKETPLANE_LAB_BUILT"

// Build builds what labs need of this checkout into dir, for BuiltVar, and their image into the tool cache.
func Build(ctx context.Context, dir string) error {
	if _, err := goBuildTo(ctx, dir, agentPackage); err != nil {
		return err
	}
	probe, err := goBuildTo(ctx, dir, probePackage)
	if err == nil {
		_, err = Image(ctx, probe)
	}
	return err
}

const (
	agentPackage = "./cmd/socketplane"
	probePackage = "./test/lab/labprobe"
)

// BuildAgent builds the socketplane binary of this checkout into the tool cache and returns its path.
func BuildAgent(ctx context.Context) (string, error) { return goBuild(ctx, agentPackage) }

// BuildProbe builds labprobe, which the image has too, for use beyond the hosts.
func BuildProbe(ctx context.Context) (string, error) { return goBuild(ctx, probePackage) }

// goBuild builds a static program of this checkout into the tool cache, unless it is built already.
func goBuild(ctx context.Context, pkg string) (string, error) {
	if dir := os.Getenv(BuiltVar); dir != "" {
		out := filepath.Join(dir, filepath.Base(pkg))
		_, err := os.Stat(out)
		return out, err
	}
	mod, err := run(ctx, "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	// Two checkouts share the cache, but not their binaries.
	checkout := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(mod)))
	return goBuildTo(ctx, filepath.Join(testenv.CacheDir(), "lab", checkout), pkg)
}

func goBuildTo(ctx context.Context, dir, pkg string) (string, error) {
	mod, err := run(ctx, "go", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	// A running program can't be written, but it can be replaced; and somebody else may be building it.
	work, err := os.MkdirTemp(dir, "build")
	if err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	defer os.RemoveAll(work)
	out, tmp := filepath.Join(dir, filepath.Base(pkg)), filepath.Join(work, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", tmp, pkg)
	cmd.Dir, cmd.Env = filepath.Dir(mod), append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w: %s", pkg, err, text)
	}
	if err := os.Rename(tmp, out); err != nil {
		return "", fmt.Errorf("build %s: %w", pkg, err)
	}
	return out, nil
}
