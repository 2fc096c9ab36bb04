package checkup_test

import (
	"slices"
	"testing"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/checkup"
	"github.com/socketplane/socketplane/internal/dataplane/ovs"
)

func TestUnreached(t *testing.T) {
	networks := func() []driver.Summary { return []driver.Summary{{ID: "1", Name: "web"}} }
	got := checkup.Unreached(ovs.Status{Unreached: map[string]int{"1": 50, "2": 1}}, networks)
	want := []string{"broadcasts of network 2 do not reach 1 of its hosts", "broadcasts of network web do not reach 50 of its hosts"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := checkup.Unreached(ovs.Status{}, nil); got != nil {
		t.Errorf("all are reached: %q", got)
	}
}
