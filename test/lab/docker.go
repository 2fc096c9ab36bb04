package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
)

// LiveRestore is the engine's flag with which containers run on while it does not.
const LiveRestore = "--live-restore"

// StartDocker starts the engine, with flags of this run only, and waits until its API answers. A [StuckPluginError] says why it does not.
func (h *Host) StartDocker(ctx context.Context, flags ...string) error {
	p, err := h.newDockerd(flags)
	if err != nil {
		return err
	}
	h.dockerd = p
	before := size(p.Log())
	if err := p.Start(); err != nil {
		return err
	}
	if err := h.await(ctx, "dockerd", p, func() bool { return h.DockerReady(ctx) }); err != nil {
		return recognised(err, written(p.Log(), before))
	}
	return nil
}

func (h *Host) newDockerd(flags []string) (*testenv.Process, error) {
	argv := append([]string{"dockerd", "--cgroup-parent=" + cgroupParent(h.lab.opts.Name) + "/" + h.Name}, flags...)
	// A dockerd that talks to Debian's containerd, or a newer one with Debian's runc, does not work: "namespace time does not exist".
	var env []string
	if h.lab.opts.Engine == EngineCurrent {
		binary := filepath.Join(testenv.EngineDir(), "dockerd")
		if _, err := os.Stat(binary); err != nil {
			return nil, fmt.Errorf("the current engine is not built: run test/tools/install.sh engine: %w", err)
		}
		argv[0] = binary
		env = []string{"PATH=" + testenv.EngineDir() + string(os.PathListSeparator) + os.Getenv("PATH")}
	} else if _, err := exec.LookPath("dockerd"); err != nil {
		return nil, fmt.Errorf("dockerd of Debian is not installed: run test/tools/install.sh docker: %w", err)
	}
	return h.daemon("dockerd", env, argv...)
}

// DockerReady says whether the engine's API answers.
func (h *Host) DockerReady(ctx context.Context) bool {
	return unixStatus(ctx, h.runPath("docker.sock"), "/_ping") == http.StatusOK
}

// unixStatus is the status of a GET on a unix socket, 0 without an answer within two seconds.
func unixStatus(ctx context.Context, socket, path string) int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://socket"+path, nil)
	if err != nil {
		return 0
	}
	resp, err := unixClient(socket).Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// unixClient speaks HTTP on a unix socket, whatever the host in the URL.
func unixClient(socket string) *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// DockerHost is the engine's address for programs outside the host, as DOCKER_HOST.
func (h *Host) DockerHost() string { return "unix://" + h.runPath("docker.sock") }

// Docker runs the docker command against this host's engine and returns its standard output. It runs outside the
// host: paths in its arguments are the machine's.
func (h *Host) Docker(ctx context.Context, args ...string) (string, error) {
	out, err := run(ctx, append([]string{h.lab.opts.dockerClient(), "--host", h.DockerHost()}, args...)...)
	if err != nil {
		return out, fmt.Errorf("%s: %w", h.Name, err)
	}
	return out, nil
}

// debianClient is the command of Debian's package docker.io.
const debianClient = "/usr/bin/docker"

// dockerClient is the engine's own command where there is one: newer commands refuse, for an engine as old as
// Debian's, what that engine can do (--mac-address on a network of one's own).
func (o Options) dockerClient() string {
	if _, err := os.Stat(debianClient); o.Engine == EngineDebian && err == nil {
		return debianClient
	}
	return "docker"
}

// StopDocker ends the engine with SIGTERM: it stops its containers first, unless it runs with LiveRestore.
func (h *Host) StopDocker() error {
	if !h.dockerd.Stop(time.Minute) {
		return errors.New("dockerd on " + h.Name + " did not end within a minute:\n" + h.dockerd.Tail(10))
	}
	return nil
}

// RestartDocker stops the engine and starts it again.
func (h *Host) RestartDocker(ctx context.Context) error {
	if err := h.StopDocker(); err != nil {
		return err
	}
	return h.StartDocker(ctx)
}

// KillDocker ends the engine as a crash would; StartDocker starts it again.
func (h *Host) KillDocker() { h.dockerd.Kill() }

// ImageName is the test image, on every host.
const ImageName = "lab:latest"

func (h *Host) importImage(ctx context.Context, tar string) error {
	_, err := h.Docker(ctx, "import", "--change", `CMD ["/bin/labprobe","init"]`,
		"--change", "ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", tar, ImageName)
	return err
}
