// Package clean removes what agents leave on a host: the bridge, links, rules, routes and the state directory, when the agent is gone for good; and what a managed
// plugin's earlier process left with containerd.
//
// It imports the parts that know their own things by a mark (ovsctl, internal/hostlink, internal/notrack, internal/statedir, internal/cluster). It must not know
// what they are for, and removes nothing that has no mark.
package clean

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/notrack"
	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// cleanWait bounds each question to Open vSwitch while the host is cleaned.
const cleanWait = 10 * time.Second

// ErrRunning says that a host can't be cleaned under a running agent.
var ErrRunning = errors.New("the agent runs")

// Host removes what agents left on this host: bridge, links and the files in the state directory, in this order. confirm is told what there is, a line
// each; its error ends it before anything was removed. It fails with ErrRunning under an agent. What is not ours is left alone, and named.
func Host(ctx context.Context, cfg config.Config, confirm func(found []string) error) error {
	l := leftovers{dir: cfg.StateDir}
	defer l.close()
	if err := l.find(ctx, cfg); err != nil {
		return err
	}
	if err := confirm(l.found()); err != nil {
		return err
	}
	return l.remove(ctx)
}

// leftovers are what agents left on this host.
type leftovers struct {
	dir    string
	state  *statedir.Content // nil unless dir is there and ours
	bridge bool
	// silent is why Open vSwitch can't be asked, nil if it can.
	silent error
	owned  []hostlink.Link
	rules  bool // that keep conntrack away from the tunnels
	routes bool // that keep Docker off the cluster's subnets

	sw    *ovsctl.Switch
	links *hostlink.Links
	lock  store.KV // held as long as dir is ours to remove
}

func (l *leftovers) find(ctx context.Context, cfg config.Config) (err error) {
	if err := l.claimState(); err != nil {
		return err
	}
	if l.links, err = hostlink.New(hostlink.Options{}); err != nil {
		return err
	}
	if l.owned, err = l.links.Owned(ctx); err != nil {
		return err
	}
	if l.routes, err = l.links.Reserved(ctx); err != nil {
		return err
	}
	if l.rules, err = notrack.Present(); err != nil && !errors.Is(err, notrack.ErrUnsupported) {
		return err
	}
	return l.findBridge(ctx, cfg)
}

// findBridge asks Open vSwitch. Without its socket there is none, and no bridge; one that does not answer is told of at the end.
func (l *leftovers) findBridge(ctx context.Context, cfg config.Config) (err error) {
	if _, err := os.Stat(strings.TrimPrefix(cfg.OVSDB, "unix:")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	l.sw, err = ovsctl.Connect(ctx, ovsctl.Options{Endpoint: cfg.OVSDB, Bridge: config.Bridge, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, cleanWait)
	defer cancel()
	for {
		row, err := l.sw.BridgeRow()
		if l.silent = err; err == nil {
			l.bridge = row != nil && row.ExternalIDs[ovsctl.MarkKey] != ""
			return nil
		}
		select {
		case <-l.sw.Changed(): // connected, perhaps
		case <-ctx.Done():
			return nil
		}
	}
}

// errStop is ErrRunning with its cure.
func errStop(why any) error {
	return fmt.Errorf("%w (%v): stop it first, with 'systemctl stop socketplane.socket socketplane-admin.socket socketplane' or "+
		"'docker plugin disable -f socketplane/plugin'", ErrRunning, why)
}

// claimState finds the state directory. The file that every agent holds tells that it is ours, and that none runs; a managed plugin's is
// elsewhere, but its socket tells.
func (l *leftovers) claimState() (err error) {
	if sockets, err := os.ReadFile("/proc/net/unix"); err == nil && strings.Contains(string(sockets), "/docker/plugins/socketplane.sock") {
		return errStop("its socket for Docker is open")
	}
	file := filepath.Join(l.dir, statedir.LocalFile)
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	found, err := statedir.Look(l.dir)
	if err != nil {
		return err
	}
	switch lock, err := bolt.Open(file, bolt.Options{}); {
	case err == nil:
		l.lock = lock
	case errors.Is(err, store.ErrInvalid):
		// Broken, or another program's. The journal is an agent's alone.
		if !slices.Contains(found.Ours, statedir.JournalFile) {
			return fmt.Errorf("%w: %s is not a file of an agent's: if it is a broken one, remove it by hand: %w", statedir.ErrForeign, file, err)
		}
	default:
		return errStop(err)
	}
	l.state = &found
	return nil
}

func (l *leftovers) found() []string {
	var list []string
	if l.bridge {
		list = append(list, "the bridge "+config.Bridge)
	}
	containers := 0
	for _, link := range l.owned {
		if link.Kind == "veth" {
			containers++
		} else {
			list = append(list, fmt.Sprintf("the link %s (%s)", link.Name, link.Kind))
		}
	}
	if containers > 0 {
		list = append(list, fmt.Sprintf("links of containers, which are cut off by it: %d", containers))
	}
	if l.rules {
		list = append(list, "the nftables table "+notrack.Table)
	}
	if l.routes {
		list = append(list, "the link "+hostlink.ReservedName+" and its routes, which keep Docker off the cluster's subnets")
	}
	if l.state != nil {
		list = append(list, "the state in "+l.dir+": the cluster will take this host for a new one")
		for _, name := range l.state.Left {
			list = append(list, "(not SocketPlane's, stays: "+filepath.Join(l.dir, name)+")")
		}
	}
	return list
}

// remove goes on after an error, so that as little as possible is left.
func (l *leftovers) remove(ctx context.Context) error {
	var errs []error
	if l.bridge {
		ctx, cancel := context.WithTimeout(ctx, cleanWait)
		defer cancel()
		// Before the links: a device that goes while it is a port leaves a dead port behind.
		errs = append(errs, l.sw.RemoveBridge(ctx))
	}
	for _, link := range l.owned {
		errs = append(errs, l.links.DeleteLink(ctx, link.Name))
	}
	if l.rules {
		errs = append(errs, notrack.Remove())
	}
	if l.routes {
		errs = append(errs, l.links.Reserve(ctx, nil))
	}
	if l.state != nil {
		errs = append(errs, cluster.Kill(filepath.Join(l.dir, statedir.ManagedDir)), l.state.Remove())
	}
	if l.silent != nil {
		errs = append(errs, fmt.Errorf("a bridge %s, if there is one, stays: start Open vSwitch and try again: %w", config.Bridge, l.silent))
	}
	return errors.Join(errs...)
}

func (l *leftovers) close() {
	if l.sw != nil {
		l.sw.Close()
	}
	if l.links != nil {
		_ = l.links.Close() // Sockets only; nothing is lost.
	}
	if l.lock != nil {
		_ = l.lock.Close() // The file is gone, or as it was.
	}
}
