package ownovs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
)

// Options of [Run]; all fields must be set.
type Options struct {
	// Dir is where the database is kept.
	Dir string
	// Socket is the database's; the switch's own sockets are beside it.
	Socket string
	// Schema is the file that a new database is made from.
	Schema string
	// Segmentation turns on segmentation offload in user space. It doesn't reach through the switch's own tunnels.
	Segmentation bool
	// Prepared is called when the database is there and the daemons can be started.
	Prepared func()
	Logger   *slog.Logger
}

// Times of the daemons.
const (
	startPatience = 30 * time.Second
	stopPatience  = 4 * time.Second // Docker gives a plugin 10 s in all
	// The pause before a restart doubles from the first to the second; Open vSwitch that had run for restartSteady is restarted after the first.
	restartPause, restartMost = time.Second, 15 * time.Second
	restartSteady             = 30 * time.Second
)

// kernelDatapath is there when the kernel's part of Open vSwitch is loaded.
const kernelDatapath = "/sys/module/openvswitch"

// Run keeps both daemons running until ctx ends, and stops them. An error means that they can't be run at all.
func Run(ctx context.Context, opts Options) error {
	if err := opts.prepare(ctx); err != nil {
		return err
	}
	opts.Prepared()
	pause := retry.Pause{First: restartPause, Last: restartMost, Steady: restartSteady}
	trouble := retry.Trouble{
		Logger: opts.Logger, Level: slog.LevelError, Text: "the plugin's Open vSwitch ended: containers are cut off until it runs again, which is tried now",
	}
	for {
		began := time.Now()
		err := opts.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		worked := time.Since(began)
		if worked >= restartSteady {
			trouble.Note(nil)
		}
		trouble.Note(err)
		pause.Wait(ctx, worked)
	}
}

// prepare makes directories and database, and brings an older version's database up to date.
func (o Options) prepare(ctx context.Context) error {
	for _, dir := range []string{o.Dir, filepath.Dir(o.Socket)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("own Open vSwitch: %w", err)
		}
	}
	db := o.database()
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		// ovsdb-tool leaves half a file behind if it is killed, hence the detour.
		fresh := db + ".new"
		if err := os.RemoveAll(fresh); err != nil {
			return fmt.Errorf("own Open vSwitch: %w", err)
		}
		if _, err := output(ctx, "ovsdb-tool", "create", fresh, o.Schema); err != nil {
			return fmt.Errorf("own Open vSwitch: make its database: %w", err)
		}
		return os.Rename(fresh, db)
	}
	old, err := output(ctx, "ovsdb-tool", "needs-conversion", db, o.Schema)
	if err == nil && strings.TrimSpace(old) == "yes" {
		_, err = output(ctx, "ovsdb-tool", "convert", db, o.Schema)
	}
	if err != nil {
		return fmt.Errorf("own Open vSwitch: bring its database up to date: %w", err)
	}
	return nil
}

func (o Options) database() string { return filepath.Join(o.Dir, "conf.db") }

// session runs both daemons until one of them ends.
func (o Options) session(ctx context.Context) error {
	run := filepath.Dir(o.Socket)
	quiet := []string{"-vconsole:warn", "-vsyslog:off", "-vfile:off"}
	database, err := start(append([]string{"ovsdb-server", o.database(), "--remote=punix:" + o.Socket,
		"--unixctl=" + filepath.Join(run, "ovsdb-server.ctl"), "--pidfile=" + filepath.Join(run, "ovsdb-server.pid")}, quiet...)...)
	if err != nil {
		return err
	}
	defer database.stop()
	if err := database.await(ctx, o.Socket); err != nil {
		return err
	}
	if err := o.configure(ctx); err != nil {
		return err
	}
	// Its control socket has the fixed name by which ovs-appctl finds it.
	vswitch, err := start(append([]string{"ovs-vswitchd", "unix:" + o.Socket,
		"--unixctl=" + filepath.Join(run, "ovs-vswitchd.ctl"), "--pidfile=" + filepath.Join(run, "ovs-vswitchd.pid")}, quiet...)...)
	if err != nil {
		return err
	}
	defer vswitch.stop()
	o.Logger.Info("the plugin runs an Open vSwitch of its own", "database", o.database(), "kernel", hasKernelDatapath())
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-database.ended:
		return fmt.Errorf("ovsdb-server: %w", database.err)
	case <-vswitch.ended:
		return fmt.Errorf("ovs-vswitchd: %w", vswitch.err)
	}
}

// configure says what ovs-vswitchd reads once, at its start.
func (o Options) configure(ctx context.Context) error {
	// The question makes the kernel load its module, if it has one.
	_, _ = output(ctx, "ovs-dpctl", "dump-dps")
	segmentation := o.Segmentation && !hasKernelDatapath()
	_, err := output(ctx, "ovs-vsctl", "--db=unix:"+o.Socket, "--timeout=10", "--no-wait", "--", "init", "--",
		"set", "Open_vSwitch", ".", fmt.Sprintf("other_config:userspace-tso-enable=%t", segmentation))
	if err != nil {
		return fmt.Errorf("configure the plugin's Open vSwitch: %w", err)
	}
	return nil
}

func hasKernelDatapath() bool {
	_, err := os.Stat(kernelDatapath)
	return err == nil
}
