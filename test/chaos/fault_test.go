package chaos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// fault is one kind of trouble.
type fault struct {
	name string
	// strike makes it on a host, mend ends it; between them lies hold.
	strike, mend func(context.Context, *world, *lab.Host) error
	hold         time.Duration
	// touches says which pairs of containers, by how they relate to the host, may lose frames.
	touches reach
	// kills names the daemon whose process id changes.
	kills lab.Daemon
	// everywhere says that operations may fail on all hosts, not only on the one that it strikes.
	everywhere bool
}

// reach is how far a fault goes.
type reach int

const (
	nobody   reach = iota
	tunnels        // pairs between this host and others
	switched       // all pairs with a container on this host
)

// paused is how long a stopped process stands still, and how long a cable is out.
const paused = 3 * time.Second

// faults are all kinds.
func faults() []fault {
	all := []fault{
		{name: "agent_killed", kills: lab.Agent, hold: time.Second, strike: func(_ context.Context, _ *world, h *lab.Host) error {
			h.KillAgent()
			return nil
		}, mend: func(ctx context.Context, w *world, h *lab.Host) error {
			return w.startAgent(ctx, h)
		}},
		{name: "dockerd_killed", kills: lab.Dockerd, touches: switched, hold: time.Second, strike: func(_ context.Context, _ *world, h *lab.Host) error {
			h.KillDocker() // and with the next start all of its containers end
			return nil
		}, mend: func(ctx context.Context, _ *world, h *lab.Host) error { return h.StartDocker(ctx) }},
		{name: "ovs-vswitchd_killed", kills: lab.VSwitchd, touches: switched, hold: time.Second, strike: func(_ context.Context, _ *world, h *lab.Host) error {
			h.KillVSwitch() // the datapath is in it
			return nil
		}, mend: func(ctx context.Context, _ *world, h *lab.Host) error { return h.StartVSwitch(ctx) }},
		{name: "ovsdb-server_killed", kills: lab.OVSDB, hold: time.Second, strike: func(_ context.Context, _ *world, h *lab.Host) error {
			h.KillOVSDB()
			return nil
		}, mend: func(ctx context.Context, _ *world, h *lab.Host) error { return h.StartOVSDB(ctx) }},
		{name: "cable_cut", touches: tunnels, hold: paused, strike: func(ctx context.Context, _ *world, h *lab.Host) error {
			return h.SetUplink(ctx, false)
		}, mend: func(ctx context.Context, _ *world, h *lab.Host) error { return h.SetUplink(ctx, true) }},
		{name: "disk_full", hold: paused, strike: fillDisk, mend: freeDisk},
		{name: "clock_ahead", hold: paused, strike: step(time.Hour), mend: step(0)},
		{name: "clock_behind", hold: paused, strike: step(-time.Hour), mend: step(0)},
	}
	all = append(all, consulFaults()...)
	for _, d := range lab.Daemons() {
		f := fault{name: string(d) + "_stopped", hold: paused, strike: signal(d, syscall.SIGSTOP), mend: signal(d, syscall.SIGCONT)}
		if d == lab.VSwitchd {
			f.touches = switched
		}
		all = append(all, f)
	}
	return all
}

func signal(d lab.Daemon, sig syscall.Signal) func(context.Context, *world, *lab.Host) error {
	return func(_ context.Context, _ *world, h *lab.Host) error {
		h.Signal(d, sig)
		return nil
	}
}

// stateDir is the agent's, in a file system of its own whose size a test can fill.
const (
	stateDir = "/var/lib/socketplane"
	diskSize = "16m"
)

func fillDisk(ctx context.Context, _ *world, h *lab.Host) error {
	out, err := h.Exec(ctx, "sh", "-c", "dd if=/dev/zero of="+stateDir+"/filler bs=4k 2>&1; df --output=avail "+stateDir+" | tail -1")
	if err != nil {
		return err
	}
	var left int
	if _, err := fmt.Sscan(lastLine(out), &left); err != nil || left > 0 {
		return fmt.Errorf("the disk is not full: %q", out)
	}
	return nil
}

func freeDisk(ctx context.Context, _ *world, h *lab.Host) error {
	_, err := h.Exec(ctx, "rm", "-f", stateDir+"/filler")
	return err
}

// step sets the clock of a host's daemons off from the machine's, which all hosts share.
func step(by time.Duration) func(context.Context, *world, *lab.Host) error {
	return func(ctx context.Context, _ *world, h *lab.Host) error {
		var errs []error
		for _, d := range lab.Daemons() {
			errs = append(errs, testenv.SetClock(ctx, h.Pid(d), by))
		}
		return errors.Join(errs...)
	}
}
