package agent

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/clean"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/ownovs"
)

// ovsSchema is where the plugin's root file system has it, as Debian's package does.
const ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// leaveLimit bounds what is done at the plugin's end, for which Docker gives it 10 s in all.
const leaveLimit = 4 * time.Second

// isPlugin says whether this is Docker's managed plugin, which no service of systemd's is.
func (a *agent) isPlugin() bool { return a.opts.V1Socket != "" }

// leaveNothing removes the bridge and the marks for Docker's allocator if no network of this host needs it: after docker plugin rm nothing of ours is there to do it. What is on the disk
// decides, as the agent may end before it has read all of it.
func (a *agent) leaveNothing() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	if used, err := driver.Used(ctx, a.local); used || err != nil {
		return
	}
	if err := errors.Join(a.links.Reserve(ctx, nil), a.sw.RemoveBridge(ctx), a.sw.Settle(ctx)); err != nil {
		a.log.Warn("the bridge stays, though no network of this host needs it", "err", err)
	}
}

// RunManaged is Run as Docker's managed plugin: it also serves the plain name on the host's socket, and runs an Open
// vSwitch of its own where the host has none.
func RunManaged(ctx context.Context, cfg config.Config, opts Options) error {
	opts.V1Socket = config.ManagedV1Socket
	removed, err := clean.PluginRemains(clean.MountInfo, config.HostRun)
	switch {
	case err != nil:
		opts.Logger.Warn("containerd's remains of this plugin stay: Docker may fail to start it the next time", "err", err)
	case removed:
		opts.Logger.Info("containerd's remains of this plugin are removed")
	}
	s := newSupervisor(cfg, opts)
	m := &ownSwitch{s: s}
	s.before = m.choose
	// The switch ends after the agent has let go of it.
	defer m.stop()
	return s.run(ctx)
}

// ownName is what the plugin's own switch is called where it has trouble.
const ownName = "the plugin's own Open vSwitch"

// ownSwitch runs an Open vSwitch beside the agent where the host has none. It is used by one goroutine.
type ownSwitch struct {
	s    *supervisor
	end  context.CancelFunc // nil while it does not run
	done chan struct{}      // closed when it has ended
}

// choose sets the database that the agent uses, and starts the plugin's own switch if that is it. Once started, it stays.
func (m *ownSwitch) choose(ctx context.Context, cfg *config.Config) error {
	own := m.end != nil || cfg.OVSDB == config.OwnOVSDB
	if !own && cfg.OVSDB == config.ManagedOVSDB {
		has, err := ownovs.HostHas(strings.TrimPrefix(config.ManagedOVSDB, "unix:"), cfg.StateDir)
		if err != nil {
			return err
		}
		own = !has
	}
	if !own {
		return nil
	}
	cfg.OVSDB = config.OwnOVSDB
	if m.end == nil {
		m.start(ctx)
	}
	return nil
}

// start runs the switch until stop, and again when it can't be run: its directory may be full or unreadable for a while.
func (m *ownSwitch) start(ctx context.Context) {
	ctx, m.end = context.WithCancel(context.WithoutCancel(ctx))
	m.done = make(chan struct{})
	go func() {
		defer close(m.done)
		for wait := attemptSoon; ; wait = min(2*wait, attemptLate) {
			err := ownovs.Run(ctx, ownovs.Options{
				Dir: filepath.Join(m.s.cfg.StateDir, "openvswitch"), Socket: strings.TrimPrefix(config.OwnOVSDB, "unix:"),
				Schema: ovsSchema, Segmentation: m.s.cfg.Tunnel != config.TunnelOVS, Logger: m.s.log,
				Prepared: func() { m.s.trouble(ownName, nil) },
			})
			if ctx.Err() != nil {
				return
			}
			m.s.trouble(ownName, err)
			pause(ctx, wait)
		}
	}()
}

func (m *ownSwitch) stop() {
	if m.end != nil {
		m.end()
		<-m.done
	}
}

// pause waits for a while or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
