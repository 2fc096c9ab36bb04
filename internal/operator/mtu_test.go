package operator

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/socketplane/socketplane/store"
)

func TestMTUNotes(t *testing.T) {
	hosts := map[string]store.Host{
		"a": {ID: "a", Name: "h1", VTEP: netip.MustParseAddr("192.0.2.1"), MTU: 9000},
		"b": {ID: "b", Name: "h2", VTEP: netip.MustParseAddr("192.0.2.2"), MTU: 1500},
		"c": {ID: "c", Name: "old", VTEP: netip.MustParseAddr("192.0.2.3")},
	}
	endpoints := []store.Endpoints{
		{Host: "a", Endpoints: []store.Endpoint{{ID: "0123456789abcdef", MTU: 8950}, {ID: "e2", MTU: 1450}}},
		{Host: "b", Endpoints: []store.Endpoint{{ID: "e3", MTU: 1400, Container: &store.Container{Name: "web"}}, {ID: "e4"}}},
	}
	want := []string{
		"container web on host h2 has MTU 1400, new containers get 1450: docker restart it",
		"endpoint 0123456789ab on host h1 has MTU 8950, new containers get 1450: docker restart it",
	}
	notes := func(n store.Network, endpoints []store.Endpoints) []string {
		c := newCensus(n, hosts, 1450, false)
		for _, e := range endpoints {
			c.add(e)
		}
		return mtuNotes(n, c)
	}
	if got := notes(store.Network{}, endpoints); !slices.Equal(got, want) {
		t.Errorf("notes are %q, want %q", got, want)
	}
	want = []string{"its MTU is 8950, but host h2 can carry 1450 at most"}
	if got := notes(store.Network{MTU: 8950}, nil); !slices.Equal(got, want) {
		t.Errorf("notes are %q, want %q", got, want)
	}
}
