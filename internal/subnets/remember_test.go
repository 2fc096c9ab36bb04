package subnets

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// kernel is a host's kernel that has what was reserved since its boot.
type kernel struct {
	reserved []netip.Prefix
	changes  int
}

func (k *kernel) Connected(context.Context) ([]hostlink.Connected, error) { return nil, nil }
func (k *kernel) Routed(context.Context) ([]netip.Prefix, error)          { return nil, nil }
func (k *kernel) Reserved(context.Context) (bool, error)                  { return len(k.reserved) > 0, nil }
func (k *kernel) Reserve(_ context.Context, subnets []netip.Prefix) error {
	k.reserved = slices.Clone(subnets)
	k.changes++
	return nil
}

// TestReservedAfterBoot: after a reboot Docker's allocator is kept off the cluster's subnets before the cluster's store is asked.
func TestReservedAfterBoot(t *testing.T) {
	local, err := bolt.Open(filepath.Join(t.TempDir(), "local.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = local.Close() })
	start := func(k *kernel) *Tracker {
		t.Helper()
		tracker := New(store.NewCluster(nil, "me"), k, Options{Local: local}) // a call of the cluster's store would panic
		if err := tracker.restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		return tracker
	}
	first := &kernel{}
	tracker := start(first)
	if first.changes != 0 {
		t.Errorf("at the first boot %v were reserved", first.reserved)
	}
	want := []netip.Prefix{cidr("172.18.0.0/16"), cidr("172.20.0.0/16")}
	for range 2 {
		if err := tracker.reserve(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	}
	if after := (&kernel{}); start(after) == nil || !slices.Equal(after.reserved, want) {
		t.Errorf("after a reboot %v are reserved, want %v", after.reserved, want)
	}
	// The agent restarts without a reboot: what the kernel has is newer.
	running := &kernel{reserved: want[:1]}
	start(running)
	if running.changes != 0 {
		t.Errorf("after a restart of the agent %v were reserved", running.reserved)
	}
	if err := tracker.reserve(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if after := (&kernel{}); start(after) == nil || after.changes != 0 {
		t.Errorf("after a reboot %v are reserved, want none", after.reserved)
	}
}
