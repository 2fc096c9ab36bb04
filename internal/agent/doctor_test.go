package agent

import (
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/doctor"
	"github.com/socketplane/socketplane/internal/hostlink"
	"github.com/socketplane/socketplane/ovsctl"
	"github.com/socketplane/socketplane/store"
)

// TestEveryCheckIsMade: the agent leaves none of the documented checks out, and keeps their order.
func TestEveryCheckIsMade(t *testing.T) {
	a := &agent{served: func() error { return nil }, cluster: store.NewCluster(nil, "h"), sw: &ovsctl.Switch{}, links: &hostlink.Links{}}
	var names []string
	for _, c := range a.checks(t.Context()) {
		name, _, _ := strings.Cut(c.Name, " other hosts")
		names = append(names, name)
		if c.Looks == "" {
			t.Errorf("%s does not say at what it looks", c.Name)
		}
	}
	if !slices.Equal(names, doctor.Names()) {
		t.Errorf("the agent makes %q,\nthe checks are %q", names, doctor.Names())
	}
}
