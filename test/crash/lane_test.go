package crash

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
	"github.com/socketplane/socketplane/test/internal/libnetwork"
	"github.com/socketplane/socketplane/test/lab"
)

const (
	// within is how long anything may take that is to happen by itself at once: in a second, on a machine of its own.
	within = 30 * time.Second
	// forgotten is how long what Docker never repeats may take to be found.
	forgotten = 2 * time.Minute
	// calm is for how long nothing is written before a call counts as finished with all that follows from it.
	calm = 250 * time.Millisecond
)

// lane is one host with a Consul of its own, on which life cycles are played one after the other.
type lane struct {
	*lab.Lab
	t      *testing.T
	h      *lab.Host
	docker *libnetwork.Client
	// far is a host that is not there, as far as Consul knows it: it makes the agent know a peer.
	far *store.Cluster
	// empty is the dump before the first cycle.
	empty string
	// cycles counts, so that none has another's names and subnets.
	cycles int
}

// points is the directory by which the agent's crash points are driven, inside the host.
const points = "/run/crashpoints"

func newLane(ctx context.Context, t *testing.T, agent string) (*lane, error) {
	l, err := lab.Start(ctx, lab.Options{Hosts: 1, Consul: true, NoAgent: true, Agent: agent})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ln := &lane{Lab: l, t: t, h: l.Hosts[0]}
	if err := os.MkdirAll(ln.path(""), 0o700); err != nil {
		return nil, err
	}
	socket := filepath.Join(ln.h.Dir, "run/docker/plugins/socketplane.sock")
	// A connection of its own for each call: those of a killed agent are of no use.
	ln.docker = libnetwork.New(socket, 15*time.Second, 0)
	kv, err := consul.Open(consul.Options{Address: "unix://" + l.Consul.Socket})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = kv.Close() })
	ln.far = store.NewCluster(kv, "feedfacefeedface")
	if err := ln.far.PutHost(ctx, store.Host{Schema: store.Schema, ID: ln.far.Host(), Name: "far", VTEP: netip.MustParseAddr("10.99.1.99")}); err != nil {
		return nil, err
	}
	return ln, ln.start(ctx)
}

// start starts the agent and waits until networks work.
func (ln *lane) start(ctx context.Context) error {
	return errors.Join(ln.h.StartAgent(ctx, "--mirror=true", "--default-network", "none"), ln.h.WaitReady(ctx))
}

func (ln *lane) path(name string) string {
	return filepath.Join(ln.h.Dir, strings.TrimPrefix(points, "/"), name)
}

// hits are the crash points that were passed so far, in order.
func (ln *lane) hits() ([]string, error) {
	text, err := os.ReadFile(ln.path("hits"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), err
}

// quiet waits until the agent has not written for a moment.
func (ln *lane) quiet(ctx context.Context) error {
	last, since := -1, time.Now()
	return testenv.Poll(ctx, 20*time.Millisecond, func() bool {
		hits, err := ln.hits()
		if err != nil || len(hits) != last {
			last, since = len(hits), time.Now()
		}
		return time.Since(since) > calm
	})
}

// arm has the agent die at the nth hit of a point from now on.
func (ln *lane) arm(p point) error {
	for _, name := range []string{"hits", "fired"} {
		if err := os.Remove(ln.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.WriteFile(ln.path("new"), fmt.Appendf(nil, "%d %s\n", p.n, p.name), 0o600); err != nil {
		return err
	}
	return os.Rename(ln.path("new"), ln.path("armed"))
}

// disarm ends that, and says whether the agent has died of it.
func (ln *lane) disarm() bool {
	_ = os.Remove(ln.path("armed")) // it is gone if it has fired
	_, err := os.Stat(ln.path("fired"))
	return err == nil
}

// died waits a moment for the agent's death, as some of it may happen after the answer.
func (ln *lane) died(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	fired := func() bool { _, err := os.Stat(ln.path("fired")); return err == nil }
	if testenv.Poll(ctx, 10*time.Millisecond, fired) != nil && !ln.disarm() {
		return false
	}
	ln.disarm()
	ln.h.KillAgent() // waits for its end
	return true
}

// waitFor polls until check returns nil, and returns its last error after the limit.
func waitFor(ctx context.Context, limit time.Duration, check func(context.Context) error) error {
	return testenv.Await(ctx, limit, 50*time.Millisecond, check)
}

// clean demands that the host and Consul are as they were before the first cycle.
func (ln *lane) clean(ctx context.Context, limit time.Duration) error {
	return waitFor(ctx, limit, func(ctx context.Context) error {
		if different := lab.Compare(ln.empty, ln.view(ctx)); different != "" {
			return fmt.Errorf("something is left: the lab was as in - and is as in +:\n%s", different)
		}
		return nil
	})
}

// hostID is that of the host, which draws a new one when it is wiped.
var hostID = regexp.MustCompile(`socketplane/v1/hosts/([0-9a-f]{16})`)

// view is the lab's dump without what differs by chance.
func (ln *lane) view(ctx context.Context) string {
	dump := lab.Lasting(ln.Dump(ctx))
	for _, m := range hostID.FindAllStringSubmatch(dump, -1) {
		if m[1] != ln.far.Host() {
			dump = strings.ReplaceAll(dump, m[1], "ID")
		}
	}
	return dump
}

// environment is what makes agents of this test program use their crash points.
func environment(t *testing.T) { t.Setenv(crashpoint.DirVar, points) }
