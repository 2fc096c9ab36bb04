package subnets

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
)

// engine is a Docker that has been connected since a time.
type engine struct {
	heard time.Time
	pools []dockerwatch.Range
	asked int
}

func (e *engine) Ready() error                                        { return nil }
func (e *engine) Heard() (time.Time, error)                           { return e.heard, nil }
func (e *engine) Locals(context.Context) ([]dockerwatch.Local, error) { return nil, nil }
func (e *engine) DefaultPools(context.Context) ([]dockerwatch.Range, error) {
	e.asked++
	return e.pools, nil
}
func (e *engine) MakeGatewayBridge(context.Context, netip.Prefix, int) error { return nil }

// TestAddressPoolsAfterRestart: Docker is asked for its address pools at once when it was started again, perhaps with another
// configuration; else seldom.
func TestAddressPoolsAfterRestart(t *testing.T) {
	e := &engine{heard: time.Now()}
	tracker := New(nil, nil, Options{Docker: e})
	ask := func(want int, pools string) {
		t.Helper()
		tracker.changed.Store(true)
		if err := tracker.askDocker(t.Context()); err != nil || e.asked != want || fmt.Sprint(tracker.pools[0].Base) != pools {
			t.Errorf("asked %d times, want %d; the first pool is %v, want %s; %v", e.asked, want, tracker.pools[0].Base, pools, err)
		}
	}
	ask(1, "172.17.0.0/16")
	ask(1, "172.17.0.0/16")
	e.heard, e.pools = time.Now(), []dockerwatch.Range{{Base: cidr("10.32.0.0/20"), Bits: 24}}
	ask(2, "10.32.0.0/20")
	ask(2, "10.32.0.0/20")
}
