package chaos

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// operations is how many there are in the short run.
const operations = 200

// TestChaos plays a plan and checks what must hold. SOCKETPLANE_CHAOS_SEED replays one, SOCKETPLANE_CHAOS_OPS makes it longer,
// and SOCKETPLANE_CHAOS_FAULTS names the only kinds of fault.
func TestChaos(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "ethtool", "consul")
	seed, ops, kinds := rand.Uint64N(1<<32), uint64(operations), chosen(faults(), os.Getenv("SOCKETPLANE_CHAOS_FAULTS"))
	for name, into := range map[string]*uint64{"SOCKETPLANE_CHAOS_SEED": &seed, "SOCKETPLANE_CHAOS_OPS": &ops} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				t.Fatalf("%s=%q: give a number", name, text)
			}
			*into = n
		}
	}
	t.Logf("SOCKETPLANE_CHAOS_SEED=%d SOCKETPLANE_CHAOS_OPS=%d replays this run", seed, ops)
	rounds := makePlan(seed, int(ops), kinds)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Duration(ops)*5*time.Second)
	defer cancel()
	w := start(ctx, t)
	began := time.Now()
	done := 0
	for i, r := range rounds {
		done += w.play(ctx, i, r)
		if t.Failed() {
			w.report(ctx)
			t.Fatalf("round %d of %d failed: %s at h%d: %v", i+1, len(rounds), r.fault.name, r.host+1, r.ops)
		}
	}
	t.Logf("%d operations in %d rounds took %v; the lab settled within %v", done, len(rounds), time.Since(began).Round(time.Second), w.worst.Round(time.Millisecond))
	w.fresh(ctx, "at the end")
	if err := w.removeAll(ctx); err != nil {
		t.Errorf("remove all: %v", err)
	}
	if err := w.waitFor(ctx, quietLimit, func(ctx context.Context) error { return w.sameAs(ctx, w.empty) }); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		w.report(ctx)
	}
}

func chosen(all []fault, names string) []fault {
	var some []fault
	for _, f := range all {
		for _, name := range strings.Split(names, ",") {
			if names == "" || name == f.name {
				some = append(some, f)
				break
			}
		}
	}
	return some
}

// play plays one round: the fault strikes while users go on, and is mended; then all must be well. It gives the number of operations.
func (w *world) play(ctx context.Context, n int, r round) int {
	began := time.Now()
	h := w.Hosts[r.host]
	what := r.fault.name + " at " + h.Name
	v, err := w.watch(ctx, n)
	defer v.abort()
	if err != nil {
		w.t.Errorf("%s: before it: %v", what, err)
		return 0
	}
	before := w.pids()
	w.front.first.Store(int64(n)) // the server that is asked leads, or does not
	var users sync.WaitGroup
	var mu sync.Mutex
	failed, count := 0, 0
	struck := make(chan struct{}) // users begin in the moment of the fault
	for i, ops := range r.ops {
		users.Go(func() {
			<-struck
			for _, o := range ops {
				err := w.do(ctx, w.Hosts[i], o)
				mu.Lock()
				count++
				if err != nil {
					failed++
					w.judge(r.fault, h, w.Hosts[i], o, err)
				}
				mu.Unlock()
			}
		})
	}
	if r.fault.kills == lab.Dockerd {
		w.addrs.drop(h.Name + "/")
	}
	err = r.fault.strike(ctx, w, h)
	close(struck)
	if err == nil {
		err = pause(ctx, r.fault.hold)
	}
	if mended := r.fault.mend(ctx, w, h); err == nil {
		err = mended
	}
	users.Wait()
	if err != nil {
		w.t.Errorf("%s: %v", what, err)
	}
	w.sameProcesses(what, r.fault, h, before)
	acted := time.Since(began)
	w.settle(ctx, what)
	v.end(w, r)
	w.t.Logf("%3d %-22s %s: %d operations (%d refused) in %.1f s, settled after %.1f s", n+1, r.fault.name, h.Name, count, failed,
		acted.Seconds(), (time.Since(began) - acted).Seconds())
	return count
}

// judge demands that an operation's failure has a cause: the fault, or an earlier failure.
func (w *world) judge(f fault, struck, at *lab.Host, o op, err error) {
	switch {
	case isConsequence(err):
	case f.everywhere || at == struck:
		w.t.Logf("  %s at %s: %s: %v: %.300v", f.name, struck.Name, at.Name, o, err)
	default:
		w.t.Errorf("%s at %s, and on %s fails %v: %v", f.name, struck.Name, at.Name, o, err)
	}
}

// pids are those of all daemons.
func (w *world) pids() map[string]int {
	all := map[string]int{}
	for _, h := range w.Hosts {
		for _, d := range lab.Daemons() {
			all[h.Name+" "+string(d)] = h.Pid(d)
		}
	}
	for i, c := range w.Consuls {
		all[serverName(i)] = c.Pid()
	}
	return all
}

// sameProcesses demands that nothing has ended but what was killed.
func (w *world) sameProcesses(what string, f fault, struck *lab.Host, before map[string]int) {
	for who, pid := range w.pids() {
		server := f.kills == consulServer && strings.HasPrefix(who, string(consulServer))
		if pid != before[who] && who != struck.Name+" "+string(f.kills) && !server {
			w.t.Errorf("%s: %s ended", what, who)
		}
	}
}

// report keeps the logs of a run that failed.
func (w *world) report(ctx context.Context) {
	dir, err := os.MkdirTemp("", "socketplane-chaos-")
	logs := map[string]string{}
	for _, h := range w.Hosts {
		for _, d := range lab.Daemons() {
			logs[h.Name+"-"+string(d)] = filepath.Join(h.Dir, "log", string(d)+".log")
		}
	}
	for i, c := range w.Consuls {
		logs[serverName(i)] = filepath.Join(filepath.Dir(c.Socket), "consul.log")
	}
	for name, path := range logs {
		text, rerr := os.ReadFile(path)
		if err == nil && rerr == nil {
			err = os.WriteFile(filepath.Join(dir, name+".log"), text, 0o600)
		}
	}
	for _, h := range w.Hosts {
		drops, err := h.Exec(ctx, "sh", "-c", "ovs-appctl -T 5 -t ovs-vswitchd coverage/show | grep drop")
		w.t.Logf("what the switch of %s has dropped, ever: %s %v", h.Name, drops, err)
	}
	w.t.Logf("the hosts' logs are kept in %s (%v)", dir, err)
}
