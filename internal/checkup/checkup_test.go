package checkup

import (
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/internal/underlay"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/store"
)

// TestEveryCheckIsMade: the agent leaves none of the documented checks out, and keeps their order.
func TestEveryCheckIsMade(t *testing.T) {
	c := New(Parts{
		Served: func() error { return nil }, Cluster: store.NewCluster(nil, "h"), Switch: &ovsctl.Switch{}, Links: &hostlink.Links{},
		Underlay: func() (underlay.Underlay, error) { return underlay.Underlay{}, nil },
	})
	var names []string
	for _, check := range c.checks(t.Context()) {
		name, _, _ := strings.Cut(check.Name, " other hosts")
		names = append(names, name)
		if check.Looks == "" {
			t.Errorf("%s does not say at what it looks", check.Name)
		}
	}
	if !slices.Equal(names, doctor.Names()) {
		t.Errorf("the agent makes %q,\nthe checks are %q", names, doctor.Names())
	}
}
