package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// SecondDocker is another engine on a host, which shares the directory of plugin sockets with the host's own.
type SecondDocker struct {
	h       *Host
	process *testenv.Process
}

// StartSecondDocker starts another engine on the host and waits until its API answers. Its data are in the host's /run.
func (h *Host) StartSecondDocker(ctx context.Context) (*SecondDocker, error) {
	p, err := h.newDockerd([]string{"-H", "unix:///run/second/docker.sock", "--data-root", "/run/second/data", "--exec-root", "/run/second/exec",
		"--pidfile", "/run/second/docker.pid", "--bridge", "none", "--iptables=false"})
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(h.runPath("second"), 0o755); err != nil {
		return nil, fmt.Errorf("second engine of %s: %w", h.Name, err)
	}
	second := &SecondDocker{h, p}
	if err := p.Start(); err != nil {
		return nil, err
	}
	socket := h.runPath(filepath.Join("second", "docker.sock"))
	ready := func() bool { return unixStatus(ctx, socket, "/_ping") == http.StatusOK }
	if err := h.await(ctx, "the second dockerd", p, ready); err != nil {
		p.Kill()
		return nil, err
	}
	return second, nil
}

// Docker runs the docker command against this engine and returns its standard output.
func (s *SecondDocker) Docker(ctx context.Context, args ...string) (string, error) {
	socket := "unix://" + s.h.runPath(filepath.Join("second", "docker.sock"))
	return run(ctx, append([]string{s.h.lab.opts.dockerClient(), "--host", socket}, args...)...)
}

// Stop ends the engine.
func (s *SecondDocker) Stop() error {
	if !s.process.Stop(time.Minute) {
		return errors.New("the second dockerd on " + s.h.Name + " did not end within a minute:\n" + s.process.Tail(10))
	}
	return nil
}
