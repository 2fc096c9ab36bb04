package plugin_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// TestArrival: a driver knows when Docker's request came, also when it waited for its turn.
func TestArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemory()
		seen := map[string]time.Time{}
		mem.before = func(ctx context.Context, _, id string) error {
			<-time.After(5 * time.Second)
			seen[id] = netapi.Arrival(ctx)
			return nil
		}
		s := plugin.New(mem, mem, plugin.Options{MaxConcurrent: 1})
		begin := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			<-time.After(time.Second)
			post(s, "NetworkDriver.DeleteNetwork", `{"NetworkID":"second"}`)
		}()
		post(s, "NetworkDriver.DeleteNetwork", `{"NetworkID":"first"}`)
		<-done
		for id, want := range map[string]time.Duration{"first": 0, "second": time.Second} {
			if got := seen[id].Sub(begin); got != want {
				t.Errorf("the %s request came after %s, want %s", id, got, want)
			}
		}
	})
}
