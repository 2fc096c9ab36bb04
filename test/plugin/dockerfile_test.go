package plugin

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/internal/fences"
	"github.com/socketplane/socketplane/test/lab"
)

// TestDockerfile: without a registry, from an imported base image, the Dockerfile gives a plugin that works. Debian's engine builds it; once is enough.
func TestDockerfile(t *testing.T) {
	if engineShows(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	base := filepath.Join(testenv.CacheDir(), "debian", "root")
	if _, err := os.Stat(base); err != nil {
		testenv.Missing(t, "needs a Debian root: run test/tools/install.sh debian")
	}
	w := prepare(ctx, t, lab.Options{Hosts: 1, NoOVS: true})
	h := w.Hosts[0]
	work := t.TempDir()
	shell(ctx, t, `tar -C "$1" --one-file-system -c . | docker --host "$2" import - base`, base, h.DockerHost())
	dir := sources(ctx, t)
	commands, err := fences.Commands("../../docs/install.md", "dockerfile")
	if err != nil || len(commands) != 3 {
		t.Fatalf("documented are %q, %v", commands, err)
	}
	// As the document tells, with the images that are here.
	shell(ctx, t, `cd "$1"; eval "$2"`, dir, commands[0])
	build := strings.Replace(commands[1], "docker build", "docker build --build-arg GO_IMAGE=base --build-arg BASE_IMAGE=base", 1)
	shell(ctx, t, `cd "$1"; export DOCKER_BUILDKIT=0 DOCKER_HOST=$2; eval "$3"`, dir, h.DockerHost(), build)
	shell(ctx, t, `export DOCKER_HOST=$1; eval "$2"
		mkdir -p "$3/rootfs" && cp ../../config.json "$3" && docker export socketplane-rootfs | tar -C "$3/rootfs" -x`, h.DockerHost(), commands[2], work+"/plugin")
	if err := h.CreatePlugin(ctx, work+"/plugin"); err != nil {
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

// shell runs a script with arguments on the machine.
func shell(ctx context.Context, t *testing.T, script string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "bash", append([]string{"-euo", "pipefail", "-c", script, "bash"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}
