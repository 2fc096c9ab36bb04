package onehost

import (
	"testing"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/statedir"
	"github.com/socketplane/socketplane/internal/testenv"
)

// TestEachStateFileIsKnown: 'socketplane clean' removes only files that it knows, so it knows all that a running agent makes: alone, and then in a
// cluster whose Consul the agent runs.
func TestEachStateFileIsKnown(t *testing.T) {
	testenv.Need(t, "consul")
	h := newHost(t, "--store", "bolt")
	t.Cleanup(func() { // Consul outlives its agent
		if err := cluster.Kill(h.Path("state/cluster")); err != nil {
			t.Error(err)
		}
	})
	known := func(when string) {
		t.Helper()
		if unknown, err := statedir.Strangers(h.Path("state")); err != nil || len(unknown) > 0 {
			t.Errorf("%s: 'clean' would leave %q, %v", when, unknown, err)
		}
	}
	h.start()
	if _, err := h.Docker().Network(h.Deadline(patience), id("net", 1), "10.1.0.0/24", ""); err != nil {
		t.Fatal(err)
	}
	known("alone, running")
	h.stop()
	known("alone, stopped")

	h.flags = []string{"--store", "cluster"}
	h.start()
	h.Eventually("the cluster is formed, with the host's network", func() error {
		info, err := h.admin().Info(h.Deadline(patience))
		if err == nil && (len(info.Hosts) != 1 || len(info.Networks) == 0) {
			err = errNotYet
		}
		return err
	})
	known("in a cluster, running")
	h.stop()
	known("in a cluster, stopped")
}
