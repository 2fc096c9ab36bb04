package checkup

import (
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestLargest: a container's own MTU counts, also when it joined before the network got another one.
func TestLargest(t *testing.T) {
	attached := store.Endpoints{Endpoints: []store.Endpoint{{MTU: 1450}, {MTU: 8950}, {}}}
	for name, c := range map[string]struct {
		own  int
		mine store.Endpoints
		want int
	}{
		"none is attached":       {8950, store.Endpoints{}, 0},
		"containers":             {0, attached, 8950},
		"the network's own":      {1400, store.Endpoints{Endpoints: []store.Endpoint{{}}}, 1400},
		"an older container's":   {1400, attached, 8950},
		"neither of them has it": {0, store.Endpoints{Endpoints: []store.Endpoint{{}}}, 0},
	} {
		if got := largest(store.Network{MTU: c.own}, c.mine); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
