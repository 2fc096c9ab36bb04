package bare

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// Agent is how an agent is started.
type Agent struct {
	// Binary is built from this checkout if it is "".
	Binary string
	// Wrap is a program with its arguments that runs the agent.
	Wrap []string
	// Env is added to this program's environment.
	Env []string
	// Flags come after those that every agent here has, so that they win; the store is always among them.
	Flags []string
}

// Binary is the agent of this checkout, which is built once.
var Binary = sync.OnceValues(func() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return lab.BuildAgent(ctx)
})

// Start starts an agent, which ends with the test at the latest. It does not wait for its sockets.
func (h *Host) Start(a Agent) *testenv.Process {
	h.T.Helper()
	if a.Binary == "" {
		var err error
		if a.Binary, err = Binary(); err != nil {
			h.T.Fatal(err)
		}
	}
	argv := append([]string{"nsenter", "--net=" + h.NetNS()}, a.Wrap...)
	argv = append(argv, a.Binary, "agent", "--state-dir", h.Path("state"), "--plugin-socket", h.Path("plugin.sock"), "--admin-socket", h.Path("admin.sock"),
		"--ovsdb", h.OVS.DB, "--docker-host", "none", "--advertise", h.Addr.String(), "--name", "one", "--metrics-addr", MetricsAddr, "--pprof")
	p := testenv.NewProcess(h.Path("agent.log"), append(argv, a.Flags...)...)
	p.Env = append(os.Environ(), a.Env...)
	if err := p.Start(); err != nil {
		h.T.Fatal(err)
	}
	h.T.Cleanup(func() {
		p.Kill()
		if h.T.Failed() {
			h.logged.Do(func() { h.T.Logf("the agent:\n%s", testenv.TailFile(h.Path("agent.log"), 30)) })
		}
	})
	return p
}
