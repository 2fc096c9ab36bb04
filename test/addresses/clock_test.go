package addresses

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
)

// TestClockIsSetBack: an address that was released while the clock was ahead rests as long as any other.
func TestClockIsSetBack(t *testing.T) {
	testenv.Root(t)
	server := newServers(t, 1)
	const pool = "10.1.0.0/24"
	m := &machine{t: t, id: "host", cfg: hostConfig{ID: "host", Consul: server.addr(0), Dir: t.TempDir(), Rest: restTime}}
	m.start(false)
	t.Cleanup(m.kill)
	ask := func(c call) answer {
		t.Helper()
		// These hosts have little patience with Consul, less than a busy machine takes now and then.
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var a answer
		var err error
		if testenv.Poll(ctx, 50*time.Millisecond, func() bool {
			a, err = m.call(c)
			return err != nil || !strings.Contains(a.Error, store.ErrUnavailable.Error())
		}) != nil || err != nil || a.Error != "" {
			t.Fatalf("%s: %v %s", c.Op, err, a.Error)
		}
		return a
	}
	ask(call{Op: "pool", Pool: pool})
	set := func(offset time.Duration) {
		t.Helper()
		if err := testenv.SetClock(t.Context(), m.agent.cmd.Process.Pid, offset); err != nil {
			t.Fatal(err)
		}
	}
	// The first is released while the clock is ahead, the second afterwards: its place in the order must not be that of the first.
	first, second := ask(call{Op: "request", Pool: pool, ID: "02:00:00:00:00:01"}), ask(call{Op: "request", Pool: pool, ID: "02:00:00:00:00:02"})
	set(time.Hour)
	ask(call{Op: "release", Pool: pool, Addr: first.Addr})
	set(0)
	ask(call{Op: "release", Pool: pool, Addr: second.Addr})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := testenv.Poll(ctx, 50*time.Millisecond, func() bool {
		return ask(call{Op: "resting", Pool: pool}).Resting == 0
	}); err != nil {
		t.Errorf("addresses still rest: %+v", ask(call{Op: "list"}).Journal)
	}
}
