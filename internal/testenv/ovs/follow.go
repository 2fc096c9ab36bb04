package ovs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// Follower follows a bridge's flows and ports through Open vSwitch's flow monitor, as ovs-ofctl prints it, so that a test can say of a flow that it was
// there at every moment. Its methods fail the test on errors, and belong to the test's goroutine.
//
// Open vSwitch tells no priorities, and tells a flow that replaces another one as added. So a flow with the same table and match as a needed one and
// with other actions counts as its end. While it has more to tell than ovs-ofctl reads, it tells only the ends of flows that were there before; a
// flow that was replaced in that time and then ends for a moment is not seen.
type Follower struct {
	t       testing.TB
	command []string // enters the switch's namespaces; empty for this program's own
	env     []string
	control string // socket of ovs-ofctl
	monitor *testenv.Process
	needed  map[Flow]bool
	since   int // bytes of the monitor's output before the last Keep
}

// Flow is a flow without its cookie, which changes with the agent's generation, and without its priority.
type Flow struct {
	Table, Match, Actions string
}

// String is the flow as ovs-ofctl writes it.
func (f Flow) String() string {
	return strings.TrimSpace("table="+f.Table+" "+f.Match) + " actions=" + f.Actions
}

// Follow follows a bridge of the switch from now on. All flows that are there now must stay; Keep says otherwise.
func (s *Switch) Follow(bridge string) *Follower {
	s.t.Helper()
	return follow(s.t, nil, s.env(), s.Mgmt(bridge), s.RunDir)
}

// FollowIn is Switch.Follow for a switch elsewhere: command, such as nsenter with its options, runs programs where bridge is known to ovs-ofctl and
// the directory /run can be written to.
func FollowIn(t testing.TB, command []string, bridge string) *Follower {
	t.Helper()
	testenv.Need(t, "ovs-ofctl", "ovs-appctl")
	return follow(t, command, nil, bridge, "/run")
}

// followers counts them: each has a socket of its own.
var followers atomic.Int32

func follow(t testing.TB, command, env []string, bridge, run string) *Follower {
	t.Helper()
	f := &Follower{t: t, command: command, env: env, control: fmt.Sprintf("%s/follow-%d-%d.ctl", run, os.Getpid(), followers.Add(1))}
	// The number has Open vSwitch tell of ports too, and send this many bytes of a packet that no flow fits.
	f.monitor = testenv.NewProcess(filepath.Join(t.TempDir(), "flows.log"),
		append(slices.Clone(command), "ovs-ofctl", "--no-names", "--timestamp", "--unixctl="+f.control, "monitor", bridge, "64", "watch:")...)
	f.monitor.Env = env
	if err := f.monitor.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.monitor.Kill)
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	var last error
	if err := testenv.Poll(ctx, 20*time.Millisecond, func() bool { last = f.barrier(ctx); return last == nil }); err != nil {
		t.Fatalf("the flow monitor does not start: %v\n%s", last, f.monitor.Tail(20))
	}
	f.Keep(func(Flow) bool { return true })
	return f
}

// barrier returns when everything that the switch did before is in the monitor's output.
func (f *Follower) barrier(ctx context.Context) error {
	argv := append(slices.Clone(f.command), "ovs-appctl", "--timeout=20", "-t", f.control, "ofctl/barrier")
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = f.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// output is what the monitor has printed of all that has happened until now.
func (f *Follower) output() []byte {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), startTimeout)
	defer cancel()
	if err := f.barrier(ctx); err != nil {
		f.t.Fatalf("the flow monitor ended (did ovs-vswitchd?): %v\n%s", err, f.monitor.Tail(5))
	}
	text, err := os.ReadFile(f.monitor.Log())
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

// Keep demands that those flows stay which are there now and which needed says yes to. It forgets what was needed and what was missing before.
func (f *Follower) Keep(needed func(Flow) bool) {
	f.t.Helper()
	text := f.output()
	h, err := readHistory(text, len(text), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.since, f.needed = len(text), map[Flow]bool{}
	for flow := range h.flows {
		if needed(flow) {
			f.needed[flow] = true
		}
	}
	if len(f.needed) == 0 {
		f.t.Fatal("no flow is needed: the test follows the wrong bridge, or none is there yet")
	}
}

// Needed is how many flows must stay.
func (f *Follower) Needed() int { return len(f.needed) }

// Check fails the test if a needed flow was missing at any moment since Keep, or if a port went or its link went down, and names it and the moment.
func (f *Follower) Check() {
	f.t.Helper()
	for _, gap := range f.Gaps() {
		f.t.Error(gap)
	}
}

// Gaps is what Check complains of.
func (f *Follower) Gaps() []string {
	f.t.Helper()
	h, err := readHistory(f.output(), f.since, f.needed)
	if err != nil {
		f.t.Fatal(err)
	}
	return h.gaps
}
