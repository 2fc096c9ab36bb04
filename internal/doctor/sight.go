package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// foundByDocker is where dockerd looks for the socket of a plugin called socketplane (moby, pkg/plugins/discovery_unix.go).
const foundByDocker = "/run/docker/plugins/socketplane.sock"

// dockerPackages is the cure for an engine that does not see the host's files.
const dockerPackages = "install Docker from Docker's own packages (https://docs.docker.com/engine/install) or the distribution's"

// Sight looks whether dockerd sees the agent's socket where it looks for plugins. An engine in another mount namespace, as the snap store's or one in a
// container, may have a /run of its own.
type Sight struct {
	Files Files
	// DockerHost is the address of Docker's API, PluginSocket the agent's socket for Docker.
	DockerHost, PluginSocket string
	// Managed says that the agent is Docker's managed plugin, which Docker itself started.
	Managed bool
}

// Check compares the agent's socket with the one in dockerd's mount namespace.
func (s Sight) Check() Check {
	return Check{Name: nameSight, Looks: foundByDocker + " as dockerd sees it", Look: s.look}
}

// withoutSight is what follows when dockerd does not see the socket.
const withoutSight = "Docker does not find the network driver socketplane: networks can't be created or used"

func (s Sight) look(ctx context.Context) Finding {
	pid, f := s.find(ctx)
	if pid == 0 {
		return f
	}
	ours, err := os.Stat(filepath.Join("/", s.Files.Root, s.PluginSocket))
	if errors.Is(err, fs.ErrPermission) {
		return Unknown(fmt.Sprintf("the agent's own socket can't be read: %v", err), "run 'socketplane doctor' as root")
	}
	if err != nil {
		return Unknown(fmt.Sprintf("the agent's own socket can't be read: %v", err), "start the agent: systemctl start socketplane")
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	theirs, err := os.Stat(filepath.Join("/", s.Files.Root, root, foundByDocker))
	who, cure, snap := s.engine(pid)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Unknown(fmt.Sprintf("what %s sees can't be read: %v", who, err), "run 'socketplane doctor' as root")
	case errors.Is(err, fs.ErrNotExist):
		return Error(fmt.Sprintf("%s sees no %s: it has %s, and the agent serves %s", who, foundByDocker, s.namespace(pid), s.PluginSocket), withoutSight, cure)
	case err != nil:
		return Unknown(fmt.Sprintf("what %s sees can't be read: %v", who, err), "run 'socketplane doctor' as root")
	case !os.SameFile(ours, theirs):
		return Error(fmt.Sprintf("%s sees another %s than the agent's %s: it has %s", who, foundByDocker, s.PluginSocket, s.namespace(pid)), withoutSight, cure)
	case snap:
		return confined(who+" sees the agent's socket", cure)
	}
	return OK("%s sees the agent's socket", who)
}

// confined is what is said of an engine of the snap store that sees what it should.
func confined(saw, cure string) Finding {
	return Warning(saw, "its confinement may still keep it from connecting, and is not tested", cure)
}

// Ahead looks whether dockerd will see the socket, before there is one: by the directories that lead to it.
func (s Sight) Ahead(ctx context.Context) Finding {
	pid, f := s.find(ctx)
	if pid == 0 {
		return f
	}
	who, cure, snap := s.engine(pid)
	root := fmt.Sprintf("/proc/%d/root", pid)
	for _, dir := range []string{"/run", "/run/docker", "/run/docker/plugins"} {
		ours, ourErr := os.Stat(filepath.Join("/", s.Files.Root, dir))
		theirs, theirErr := os.Stat(filepath.Join("/", s.Files.Root, root, dir))
		switch {
		case errors.Is(theirErr, fs.ErrPermission):
			return Unknown(fmt.Sprintf("what %s sees can't be read: %v", who, theirErr), "run this command as root")
		case ourErr != nil && theirErr != nil:
			continue
		case ourErr != nil || theirErr != nil || !os.SameFile(ours, theirs):
			return Error(fmt.Sprintf("%s has another %s than this host: it has %s", who, dir, s.namespace(pid)), withoutSight, cure)
		}
	}
	if snap {
		return confined(who+" sees the host's /run/docker/plugins", cure)
	}
	return OK("%s sees the host's /run/docker/plugins", who)
}

// find is dockerd's process, or why there is nothing to look at.
func (s Sight) find(ctx context.Context) (int, Finding) {
	path, local := strings.CutPrefix(s.DockerHost, "unix://")
	switch {
	case s.Managed:
		return 0, NotApplicable("Docker itself started the plugin")
	case !local:
		return 0, NotApplicable("Docker's API is not a local socket (--docker-host %s)", s.DockerHost)
	}
	pid := s.dockerd(ctx, path)
	if pid == 0 {
		return 0, Unknown("dockerd's process can't be seen", "start Docker (systemctl start docker), or run 'socketplane doctor' as root outside of containers")
	}
	return pid, Finding{}
}

// engine is what an engine is called, and what makes it see the host's files.
func (s Sight) engine(pid int) (who, cure string, snap bool) {
	if strings.HasPrefix(s.target(fmt.Sprintf("/proc/%d/exe", pid)), "/snap/") {
		return fmt.Sprintf("dockerd of the snap store (process %d)", pid), "save what its images and volumes have, which go with it, then snap remove docker, and " + dockerPackages, true
	}
	return fmt.Sprintf("dockerd (process %d)", pid), "run dockerd with the host's /run/docker/plugins, or " + dockerPackages, false
}

// namespace says whether a process has the mounts that this one has.
func (s Sight) namespace(pid int) string {
	theirs, ours := s.target(fmt.Sprintf("/proc/%d/ns/mnt", pid)), s.target("/proc/self/ns/mnt")
	if theirs != "" && theirs == ours {
		return "the same mounts as this program"
	}
	return "a mount namespace of its own"
}

// target is where a symbolic link leads, "" if it can't be read.
func (s Sight) target(path string) string {
	to, err := os.Readlink(filepath.Join("/", s.Files.Root, path))
	if err != nil {
		return ""
	}
	return to
}

// dockerd is the process that serves the API socket, or the one whose id is beside it, or the only one of this name; 0 if none can be seen.
func (s Sight) dockerd(ctx context.Context, socket string) int {
	is := func(pid int) bool {
		p, err := s.Files.Process(pid)
		return err == nil && p.Exists && p.Name == "dockerd"
	}
	if pid := askSocket(ctx, socket, []byte(askDocker)).pid; is(pid) { // Docker says nothing before it is asked
		return pid // else systemd made it, or a proxy
	}
	for _, file := range []string{filepath.Join(filepath.Dir(socket), "docker.pid"), pidFile, "/var/snap/docker/common/run/docker.pid"} {
		text, err := s.Files.Text(file)
		if err != nil {
			continue
		}
		if pid, err := strconv.Atoi(text); err == nil && is(pid) {
			return pid
		}
	}
	all, err := filepath.Glob(filepath.Join("/", s.Files.Root, "/proc/[0-9]*"))
	if err != nil {
		return 0
	}
	found := 0
	for _, dir := range all {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || !is(pid) {
			continue
		}
		if found != 0 {
			return 0 // several: which of them is not known
		}
		found = pid
	}
	return found
}
