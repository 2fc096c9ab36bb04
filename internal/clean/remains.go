package clean

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// MountInfo names, among a process's mounts, where on the host they come from.
const MountInfo = "/proc/self/mountinfo"

// stateMount is Docker's mount of a plugin's state, which has the plugin's id in it.
var stateMount = regexp.MustCompile(`/plugins/([0-9a-f]{64})/propagated-mount `)

// taskDirs are where containerd keeps what it knows of running plugins, below the host's /run: the system's own, and dockerd's.
func taskDirs() []string {
	return []string{"containerd/io.containerd.runtime.v2.task/plugins.moby", "docker/containerd/daemon/io.containerd.runtime.v2.task/plugins.moby"}
}

// PluginRemains finishes what containerd began when this plugin's process before this one had ended: it renames the directory of a task that is over to
// .ID, and removes that. If it dies in between, .ID stays, and nobody notices until this process ends: then the directory can't be renamed,
// so that Docker can't start the plugin ("mkdir: file exists"); and each later dockerd keeps it as enabled without a client, and ends by a panic when libnetwork
// asks that one. A task that runs has no .ID.
func PluginRemains(mounts, run string) (removed bool, err error) {
	text, err := os.ReadFile(mounts)
	if err != nil {
		return false, fmt.Errorf("remains of this plugin's earlier life: %w", err)
	}
	found := stateMount.FindSubmatch(text)
	if found == nil {
		return false, nil
	}
	var errs []error
	for _, dir := range taskDirs() {
		path := filepath.Join(run, dir, "."+string(found[1]))
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		errs = append(errs, os.RemoveAll(path))
		removed = true
	}
	return removed, errors.Join(errs...)
}
