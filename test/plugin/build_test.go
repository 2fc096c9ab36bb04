package plugin

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/fences"
	"github.com/socketplane/socketplane/test/lab"
)

// engineShows says that Debian's engine shows what does not depend on the engine: once is enough.
func engineShows(t *testing.T) bool {
	t.Helper()
	other := lab.Engine(os.Getenv("SOCKETPLANE_E2E_ENGINE")) == lab.EngineCurrent
	if other {
		t.Log("Debian's engine shows it")
	}
	return other
}

// sources is a copy of the checkout as it is, with what is not committed, in which documented builds may write.
func sources(ctx context.Context, t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	// tar's 1 says that a file changed meanwhile: other tests run beside this one.
	shell(ctx, t, `{ tar -C ../.. --exclude=./.git --exclude=./bin --exclude=./build -c . || [ $? = 1 ]; } | tar -x -C "$1"`, dir)
	return dir
}

// TestDocumentedBuild: make plugin, and by a registry, as docs/install.md tells.
func TestDocumentedBuild(t *testing.T) {
	if engineShows(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	w := prepare(ctx, t, lab.Options{Hosts: 1, NoOVS: true})
	h := w.Hosts[0]
	dir := sources(ctx, t)
	build, err := fences.Commands("../../docs/install.md", "build")
	push, err2 := fences.Commands("../../docs/install.md", "push")
	if err != nil || err2 != nil || len(build) != 1 || len(push) != 3 {
		t.Fatalf("documented are %q and %q: %v, %v", build, push, err, err2)
	}
	registry, err := h.StartRegistry(ctx)
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	// Consul's program would be most of it, and is not needed: TestByItself has it.
	run := func(line string) {
		t.Helper()
		shell(ctx, t, `cd "$1"; export DOCKER_HOST=$2 CONSUL=; eval "$3"`, dir, h.DockerHost(), strings.ReplaceAll(line, "registry.example.com", registry))
	}
	run(build[0])
	docker(ctx, t, h, "plugin", "rm", lab.PluginName)
	run(push[0])
	run(push[1])
	// The hosts that install it have not made it.
	docker(ctx, t, h, "plugin", "rm", registry+"/socketplane/plugin:latest")
	run(push[2])
	if err := h.SetPlugin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.EnablePlugin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := h.WaitPluginReady(ctx); err != nil {
		t.Fatal(err)
	}
	docker(ctx, t, h, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.61.0.0/24", "web")
	docker(ctx, t, h, "run", "--rm", "--network", "web", lab.ImageName, "true")
}
