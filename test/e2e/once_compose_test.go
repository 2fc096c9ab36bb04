package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

func (w *once) told(ctx context.Context, t *testing.T) {
	h := w.Hosts[1]
	w.docker(ctx, t, h, "run", "-d", "--name", "named", "--network", "socketplane", "--network-alias", "db",
		"--label", "com.docker.compose.service=database", lab.ImageName)
	shown := func(name string) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			out, err := w.Hosts[2].SocketPlane(ctx, "info", name)
			if err != nil || !strings.Contains(out, "com.docker.compose.service=database") || !strings.Contains(out, "Aliases   db") {
				return fmt.Errorf("%w %s", err, out)
			}
			return nil
		}
	}
	eventually(ctx, t, 30*time.Second, shown("named"))
	w.docker(ctx, t, h, "rename", "named", "renamed")
	eventually(ctx, t, 30*time.Second, shown("renamed"))
	w.docker(ctx, t, h, "rm", "-f", "renamed")
	w.endpoints(ctx, t, "socketplane", 0)
}

// composeFile is used on every host.
const composeFile = `version: "3.5"
services:
  front:
    image: ` + lab.ImageName + `
    networks:
      back:
        aliases: [www]
networks:
  back:
    driver: socketplane
    labels: {tier: back}
    ipam:
      driver: socketplane
`

// compose uses one Compose file on three hosts: first on one, then on the others at once, and takes it down everywhere.
func (w *once) compose(ctx context.Context, t *testing.T) {
	testenv.Need(t, "docker-compose")
	file := filepath.Join(t.TempDir(), "docker-compose.yml")
	if err := os.WriteFile(file, []byte(composeFile), 0o600); err != nil {
		t.Fatal(err)
	}
	compose := func(h *lab.Host, args ...string) error {
		cmd := exec.CommandContext(ctx, "docker-compose", append([]string{"-p", "shop", "-f", file}, args...)...)
		// This Compose asks for an API version of its time, which current engines have no more.
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+h.DockerHost(), "COMPOSE_API_VERSION=auto")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("docker-compose %v on %s: %w: %s", args, h.Name, err, out)
		}
		return nil
	}
	if err := compose(w.Hosts[0], "up", "-d"); err != nil {
		t.Fatal(err)
	}
	w.have(ctx, t, 30*time.Second, w.Hosts, "shop_back")
	var g errgroup.Group
	for _, h := range w.Hosts[1:] {
		g.Go(func() error { return compose(h, "up", "-d") })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var all []*container
	for _, h := range w.Hosts {
		names := w.docker(ctx, t, h, "ps", "--format", "{{.Names}}", "--filter", "label=com.docker.compose.project=shop")
		c, err := inspect(ctx, h, names)
		if err != nil {
			t.Fatalf("%s has %q: %v", h.Name, names, err)
		}
		all = append(all, c)
	}
	all[0].reachable(ctx, t, all[1].addr, all[2].addr)
	eventually(ctx, t, 30*time.Second, func(ctx context.Context) error {
		out, err := w.Hosts[0].SocketPlane(ctx, "endpoint", "ls", "--network", "shop_back", "--format", "json")
		if n := strings.Count(out, `"com.docker.compose.service": "front"`); err != nil || n != 3 || strings.Count(out, `"www"`) != 3 {
			return fmt.Errorf("%d endpoints tell their service: %v %s", n, err, out)
		}
		return nil
	})
	for i, h := range w.Hosts { // the network stays where it is used
		if err := compose(h, "down"); err != nil {
			t.Fatal(err)
		}
		w.endpoints(ctx, t, "shop_back", max(0, len(w.Hosts)-1-i))
	}
	w.only(ctx, t, 30*time.Second)
}
