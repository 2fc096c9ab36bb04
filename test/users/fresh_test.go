package users

import (
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestCoreFreshHosts: the hosts of this package have nothing that users' hosts lack, and the first containers ever of each
// host reach each other.
func TestCoreFreshHosts(t *testing.T) {
	ctx := limit(t, 2*time.Minute)
	w := fresh(ctx, t, func(o *lab.Options) { o.NoAgent = true })
	for _, h := range w.Hosts {
		if got := strings.Fields(w.docker(ctx, h, "network", "ls", "--format", "{{.Name}}")); strings.Join(got, " ") != "bridge host none" {
			t.Errorf("%s has the networks %v", h.Name, got)
		}
		if got := w.docker(ctx, h, "ps", "-aq"); got != "" {
			t.Errorf("%s has containers: %s", h.Name, got)
		}
	}
	w.startAgents(ctx)
	w.docker(ctx, w.Hosts[0], "network", "create", "-d", "socketplane", "--subnet", "10.70.0.0/24", "web")
	w.arrives(ctx, "web")
	w.talk(ctx, w.runOnEach(ctx, "web", "c1"))
}
