package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Docker is what Docker's API is looked at with.
type Docker struct {
	Files Files
	// Host is the API's address (unix://PATH or tcp://HOST:PORT), or "none".
	Host string
	// Ready is the agent's own connection, Networks the number of SocketPlane's networks that Docker has; nil without an agent.
	// The error of Ready wraps ErrNotTried while the agent has not connected to Docker yet.
	Ready    func() error
	Networks func(context.Context) (int, error)
	// Info asks for what Docker answers only when all that it works with does, as containerd.
	Info func(context.Context) error
}

// ErrNotTried says that the agent has not connected to Docker yet since its start.
var ErrNotTried = errors.New("the agent has not connected to Docker yet")

// infoAnswer is how long Docker may take for Info.
const infoAnswer = 3 * time.Second

// askDocker is the cheapest question that Docker's API answers.
const askDocker = "GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"

// pidFile is where dockerd writes its process id by default.
const pidFile = "/run/docker.pid"

// withoutDocker is what follows when its API does not answer.
const withoutDocker = "networks do not follow the cluster on this host, and containers can't be started"

// Check looks whether Docker's API answers, now.
func (d Docker) Check() Check {
	return Check{Name: nameDocker, Looks: "an answer of Docker's API at " + d.Host, Look: func(ctx context.Context) Finding {
		if d.Host == "none" {
			return NotApplicable("Docker's API is not used (--docker-host none): networks are made by hand on this host")
		}
		if path, ok := strings.CutPrefix(d.Host, "unix://"); ok {
			if f, bad := d.socket(ctx, path); bad {
				return f
			}
		} else if f, bad := d.tcp(ctx); bad {
			return f
		}
		if d.Ready == nil {
			return OK("answers at %s", d.Host)
		}
		switch err := d.Ready(); {
		case errors.Is(err, ErrNotTried):
			return Unknown(fmt.Sprintf("Docker's API answers at %s, but the agent has not connected to it yet since its start", d.Host), "wait a moment; if it stays, see the store, for which the agent waits first")
		case err != nil:
			return Error(err.Error(), withoutDocker, "systemctl start docker")
		}
		n, err := d.Networks(ctx)
		if err != nil {
			return Error(err.Error(), withoutDocker, "systemctl restart docker")
		}
		if f, bad := d.info(ctx); bad {
			return f
		}
		return OK("answers at %s, has %d networks of SocketPlane", d.Host, n)
	}}
}

// info looks for a Docker whose API answers while containerd hangs: then containers can't be started or stopped.
func (d Docker) info(ctx context.Context) (Finding, bool) {
	ctx, cancel := context.WithTimeout(ctx, infoAnswer)
	defer cancel()
	err := d.Info(ctx)
	if err == nil {
		return Finding{}, false
	}
	if ctx.Err() == nil {
		return Error("Docker answers, but does not say how it is: "+err.Error(), withoutDocker, "see 'docker info' and 'journalctl -u docker'"), true
	}
	if pid := d.Files.stopped("containerd"); pid != 0 {
		return Error(fmt.Sprintf("Docker's API answers, but containerd (process %d) is stopped by a signal (SIGSTOP, or a debugger)", pid), "containers can't be started or stopped",
			fmt.Sprintf("kill -CONT %d", pid)), true
	}
	return Error(fmt.Sprintf("Docker's API answers, but 'docker info' does not within %v: containerd, or another program that Docker works with, hangs", infoAnswer),
		"containers can't be started or stopped", "systemctl restart containerd docker; 'journalctl -u containerd -u docker' says more"), true
}

// socket asks a unix socket.
func (d Docker) socket(ctx context.Context, path string) (Finding, bool) {
	s := askSocket(ctx, path, []byte(askDocker))
	if s.err == nil {
		return Finding{}, false
	}
	// systemd may be who listens; dockerd then writes its own process id.
	text, _ := d.Files.Text(pidFile) // "" where there is none
	pid, parse := strconv.Atoi(text)
	var daemon Process
	if parse == nil {
		daemon, _ = d.Files.Process(pid) // the zero Process where it can't be read
	}
	switch {
	case s.silent && daemon.Exists && daemon.Stopped:
		s.pid = pid
	case errors.Is(s.err, fs.ErrNotExist) && daemon.Exists && daemon.Name == "dockerd":
		return Error(fmt.Sprintf("there is no socket %s, though dockerd runs (process %d)", path, pid), withoutDocker,
			"give the agent the address of Docker's API with --docker-host; 'docker context ls' shows it, and a restart of Docker makes a socket again that was removed"), true
	}
	start := "systemctl start docker"
	if s.silent {
		start = "systemctl restart docker"
	}
	return s.daemon(d.Files, "Docker", path, start, withoutDocker)
}

// tcp only connects: what is behind may want TLS.
func (d Docker) tcp(ctx context.Context) (Finding, bool) {
	addr := strings.TrimPrefix(d.Host, "tcp://")
	ctx, cancel := context.WithTimeout(ctx, socketAnswer)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err == nil {
		_ = conn.Close() // it was opened to see that it can be
		return Finding{}, false
	}
	saw := fmt.Sprintf("Docker's API at %s can't be reached: %v", addr, err)
	if errors.Is(err, syscall.ECONNREFUSED) {
		saw = fmt.Sprintf("%s refuses connections: Docker does not listen there", addr)
	}
	return Error(saw, withoutDocker, "systemctl start docker, or give the right address with --docker-host"), true
}
