package checkup_test

import (
	"slices"
	"testing"

	"github.com/socketplane/socketplane/internal/checkup"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/netview"
)

func TestUnreached(t *testing.T) {
	networks := func() []netview.Network { return []netview.Network{{ID: "1", Name: "web"}} }
	got := checkup.Unreached(ovs.Status{Unreached: map[string]int{"1": 50, "2": 1}}, networks)
	want := []string{"broadcasts of network 2 do not reach 1 of its hosts", "broadcasts of network web do not reach 50 of its hosts"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := checkup.Unreached(ovs.Status{}, nil); got != nil {
		t.Errorf("all are reached: %q", got)
	}
}
