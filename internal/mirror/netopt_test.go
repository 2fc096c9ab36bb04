package mirror

import (
	"testing"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netopt"
	"github.com/socketplane/socketplane/store"
)

// TestCopiesHaveEachOption: a copy has each option of the network that the rule of its row says is copied, with its value, and no other.
func TestCopiesHaveEachOption(t *testing.T) {
	here := dockerwatch.Network{Name: "web", Options: map[string]string{}}
	for _, row := range netopt.Networks() {
		here.Options[row.Key] = "value of " + row.Key
	}
	d := declaration(here)
	copied := copied(store.Network{Name: "web", Declared: &d})
	for _, row := range netopt.Networks() {
		value, is := copied.Options[row.Key]
		if is != row.Merge.Copied() || is && value != "value of "+row.Key {
			t.Errorf("%s (another host %s): the copy has %q, %v", row.Key, row.Merge, value, is)
		}
	}
	if len(here.Options) != len(netopt.Networks()) {
		t.Error("the network's own options were changed")
	}
}
