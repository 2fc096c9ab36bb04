package plugin_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/socketplane/socketplane/plugin"
)

// TestSettled: what needs a switch waits until there is one, what does not is answered meanwhile.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := newMemory()
		up := make(chan struct{})
		wait := func(ctx context.Context) {
			select {
			case <-up:
			case <-ctx.Done():
			}
		}
		s := plugin.New(plugin.Settled(mem, wait), mem, plugin.Options{})
		post(s, "IpamDriver.GetDefaultAddressSpaces", "")
		if r := post(s, "IpamDriver.RequestPool", `{"AddressSpace":"socketplane","Pool":"10.1.0.0/24"}`); r.status != 200 {
			t.Errorf("a pool: %d %s", r.status, r.body)
		}
		if r := post(s, "NetworkDriver.DeleteNetwork", `{"NetworkID":"gone"}`); r.status != 200 {
			t.Errorf("a removal: %d %s", r.status, r.body)
		}
		created := make(chan reply, 1)
		go func() { created <- post(s, "NetworkDriver.CreateNetwork", `{"NetworkID":"n1"}`) }()
		synctest.Wait()
		if mem.hasNetwork("n1") || len(created) > 0 {
			t.Error("a network was created without a switch")
		}
		close(up)
		if r := <-created; r.status != 200 || !mem.hasNetwork("n1") {
			t.Errorf("a network: %d %s", r.status, r.body)
		}
	})
}
