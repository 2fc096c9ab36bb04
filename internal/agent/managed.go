package agent

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/ownovs"
)

// ovsSchema is where the plugin's root file system has it, as Debian's package does.
const ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// leaveLimit bounds what is done at the plugin's end, for which Docker gives it 10 s in all.
const leaveLimit = 4 * time.Second

// isPlugin says whether this is Docker's managed plugin, which no service of systemd's is.
func (a *agent) isPlugin() bool { return a.opts.V1Socket != "" }

// leaveNothing removes the bridge if no network of this host needs it: after docker plugin rm nothing of ours is there to do it. What is on the disk
// decides, as the agent may end before it has read all of it.
func (a *agent) leaveNothing() {
	ctx, cancel := context.WithTimeout(context.Background(), leaveLimit)
	defer cancel()
	if used, err := driver.Used(ctx, a.local); used || err != nil {
		return
	}
	if err := errors.Join(a.sw.RemoveBridge(ctx), a.sw.Settle(ctx)); err != nil {
		a.log.Warn("the bridge stays, though no network of this host needs it", "err", err)
	}
}

// RunManaged is Run as Docker's managed plugin: it also serves the plain name on the host's socket, and runs an Open
// vSwitch of its own where the host has none.
func RunManaged(ctx context.Context, cfg config.Config, opts Options) error {
	opts.V1Socket = config.ManagedV1Socket
	removed, err := removeRemains(mountInfo, config.HostRun)
	switch {
	case err != nil:
		opts.Logger.Warn("containerd's remains of this plugin stay: Docker may fail to start it the next time", "err", err)
	case removed:
		opts.Logger.Info("containerd's remains of this plugin are removed")
	}
	if err := awaitUnderlay(ctx, cfg, opts); err != nil || ctx.Err() != nil {
		return err
	}
	own := cfg.OVSDB == config.OwnOVSDB
	if cfg.OVSDB == config.ManagedOVSDB {
		has, err := ownovs.HostHas(strings.TrimPrefix(config.ManagedOVSDB, "unix:"), cfg.StateDir)
		if err != nil {
			return err
		}
		own = !has
	}
	if !own {
		opts.Logger.Info("the host's Open vSwitch is used", "ovsdb", cfg.OVSDB)
		return Run(ctx, cfg, opts)
	}
	cfg.OVSDB = config.OwnOVSDB
	// The switch ends after the agent has let go of it.
	group, agentCtx := errgroup.WithContext(ctx)
	switchCtx, stopSwitch := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSwitch()
	group.Go(func() error {
		return ownovs.Run(switchCtx, ownovs.Options{
			Dir: filepath.Join(cfg.StateDir, "openvswitch"), Socket: strings.TrimPrefix(config.OwnOVSDB, "unix:"),
			Schema: ovsSchema, Segmentation: cfg.Tunnel != config.TunnelOVS, Logger: opts.Logger,
		})
	})
	group.Go(func() error {
		defer stopSwitch()
		return Run(agentCtx, cfg, opts)
	})
	return group.Wait()
}
