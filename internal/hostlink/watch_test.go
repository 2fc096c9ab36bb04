package hostlink

import (
	"context"
	"testing"
)

func TestWatch(t *testing.T) {
	s, v := newSpace(t), testVeth()
	ensureVXLAN(t, s, testVXLAN())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed, err := s.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	// A signal may still be on its way when the step before it is done: take all until the state is reported.
	drain := func() {
		for {
			select {
			case <-changed:
			default:
				return
			}
		}
	}
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"appears", func() { ensureVeth(t, s, v) }},
		{"changes", func() { s.ip("link", "set", v.Host, "mtu", "1300") }},
		{"loses its alias", func() { s.ip("link", "set", v.Host, "alias", "") }},
		{"gets it again", func() { ensureVeth(t, s, v) }},
		{"goes", func() { s.ip("link", "del", v.Host) }},
		{"one from before goes", func() { s.ip("link", "del", testVXLAN().Name) }},
	} {
		drain()
		step.do()
		eventually(t, "signal when a link "+step.name, func() bool {
			select {
			case <-changed:
				return true
			default:
				return false
			}
		})
	}
	cancel()
	eventually(t, "the channel is closed", func() bool {
		select {
		case _, open := <-changed:
			return !open
		default:
			return false
		}
	})
}

func TestConcernsOnlyOurs(t *testing.T) {
	s := newSpace(t)
	s.nic("br0")
	changed, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.ip("link", "set", "br0", "mtu", "1400")
	s.ip("link", "del", "br0")
	// Ours comes after it: when its signal is here, another's would have been.
	ensureVXLAN(t, s, testVXLAN())
	<-changed
	owned, err := s.Owned(t.Context())
	if err != nil || len(owned) != 1 {
		t.Fatalf("the first signal came before a link of ours was there: %v, %v", owned, err)
	}
}
