package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// count is how many entries a directory has.
func (f Files) count(path string) (int, error) {
	entries, err := os.ReadDir(filepath.Join("/", f.Root, path))
	return len(entries), err
}

// Bounds of the state directory: what is written to see that there is room, and the space below which it is nearly full, in bytes.
const (
	stateProbe = 64 << 10
	stateSpare = 16 << 20
)

// StateDir looks whether the agent can keep its state. open are the files of it that this process has open, restart restarts the agent.
func StateDir(files Files, dir string, open []OpenFile, restart string) Check {
	return Check{Name: nameStateDir, Looks: "a file that is written into " + dir + " and removed again, the space there, and whether the agent's open files are still there", Look: func(context.Context) Finding {
		const follows = "no container can be added to a network: what is handed out has to be kept"
		err := writable(dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			if f, bad := lost(open, restart); bad {
				return f
			}
		}
		switch {
		case errors.Is(err, syscall.EROFS):
			return Error(dir+" can't be written: its file system is mounted read-only", follows,
				fmt.Sprintf("mount -o remount,rw %s; if it went read-only by itself, 'dmesg' says which disk failed", files.mountOf(dir)))
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			return Error(dir+" can't be written: its file system is full", follows, fmt.Sprintf("make room: 'df -h %s' and 'du -xh %s' show what takes it", dir, files.mountOf(dir)))
		case errors.Is(err, fs.ErrNotExist) && missing(dir):
			return Error(dir+" is gone", follows, "mkdir -m 700 "+dir+", and restart the agent")
		case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
			return Unknown("permission denied on "+dir, "run 'socketplane doctor' as root")
		case err != nil:
			return Error(dir+" can't be written: "+err.Error(), follows, "see that the directory is on a file system that can be written, and root's")
		}
		var st syscall.Statfs_t
		if err := syscall.Statfs(dir, &st); err != nil {
			return Unknown(err.Error(), "")
		}
		free := st.Bavail * uint64(st.Bsize)
		if free < stateSpare {
			return Warning(fmt.Sprintf("only %d KiB are free at %s", free>>10, dir), "when it is full no container can be added to a network",
				fmt.Sprintf("make room: 'df -h %s' and 'du -xh %s' show what takes it", dir, files.mountOf(dir)))
		}
		return OK("%s can be written, %d MiB are free", dir, free>>20)
	}}
}

func missing(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// probeFile is written into the state directory. Its name is always the same, so that one that a killed program left is overwritten.
const probeFile = ".doctor"

// writable writes a file and removes it. Another program may do the same at the same time.
func writable(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, probeFile), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, stateProbe))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if gone := os.Remove(f.Name()); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// mountOf is the mount point that a path is on: the last that was mounted of those that are nearest.
func (f Files) mountOf(path string) string {
	text, err := f.Text("/proc/self/mountinfo")
	if err != nil {
		return path
	}
	at := "/"
	for line := range strings.Lines(text) { // id, parent, device, root, mount point, …
		if fields := strings.Fields(line); len(fields) > 4 && len(fields[4]) >= len(at) && (path == fields[4] || strings.HasPrefix(path, strings.TrimSuffix(fields[4], "/")+"/")) {
			at = fields[4]
		}
	}
	return at
}

// Socket is one that the agent serves.
type Socket struct {
	Path string
	// Mode is the most that may be allowed.
	Mode fs.FileMode
}

// Sockets looks whether the agent's sockets are where Docker and the command line look for them, and who may use them.
func Sockets(sockets []Socket, restart string) Check {
	var paths []string
	for _, s := range sockets {
		paths = append(paths, s.Path)
	}
	return Check{Name: nameSockets, Looks: "the mode of " + strings.Join(paths, ", "), Look: func(context.Context) Finding {
		var wrong, open []string
		for _, s := range sockets {
			info, err := os.Stat(s.Path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				wrong = append(wrong, s.Path+" is gone")
			case errors.Is(err, fs.ErrPermission):
				return Unknown(err.Error(), "run 'socketplane doctor' as root")
			case err != nil:
				wrong = append(wrong, err.Error())
			case info.Mode()&fs.ModeSocket == 0:
				wrong = append(wrong, s.Path+" is no socket")
			case info.Mode().Perm()&^s.Mode != 0:
				open = append(open, fmt.Sprintf("chmod %o %s", s.Mode, s.Path))
				wrong = append(wrong, fmt.Sprintf("%s has mode %o: too many may use it", s.Path, info.Mode().Perm()))
			}
		}
		slices.Sort(wrong)
		switch {
		case len(wrong) == 0:
			return OK("all are there, and not for everybody")
		case len(open) == len(wrong):
			slices.Sort(open)
			return Error(strings.Join(wrong, "; "), "who reaches the socket can attach to any network", strings.Join(open, " && ")+" ("+restart+" does it too)")
		}
		return Error(strings.Join(wrong, "; "), "Docker or the command line does not reach the agent", restart)
	}}
}

// Stale looks at what waits to be removed.
func Stale(find func(context.Context) ([]string, error)) Check {
	return Check{Name: nameStale, Looks: "records that nothing needs, hosts that are away, and what waits for the store or the switch", Look: func(ctx context.Context) Finding {
		found, err := find(ctx)
		switch {
		case err != nil:
			return Unknown(err.Error(), "see the store")
		case len(found) > 0:
			return Warning(strings.Join(found, "; "), "",
				"it goes by itself, or when those hosts are back; 'socketplane host rm' forgets one that will not come back")
		}
		return OK("none")
	}}
}

// Published looks for containers of this host that the other hosts do not know of; find names networks that have some, a line each, and log is where the agent
// says more.
func Published(find func(context.Context) ([]string, error), log string) Check {
	return Check{Name: namePublished, Looks: "the records by which the other hosts know this host's containers", Look: func(ctx context.Context) Finding {
		found, err := find(ctx)
		switch {
		case err != nil:
			return Unknown(err.Error(), "see the store")
		case len(found) > 0:
			return Error(strings.Join(found, "; "), "containers on other hosts do not reach these", "it is tried again by itself; "+log+" says why it fails")
		}
		return OK("the other hosts know all of them")
	}}
}

// comparedLately is how long a comparison of the networks holds: several times the pause between two.
const comparedLately = time.Minute

// Networks looks for networks that this host's Docker does not have as the cluster has them. none says why they are not compared, last
// when that last succeeded, and the error of the last attempt.
func Networks(none string, troubles func() []string, last func() (at time.Time, err error)) Check {
	return Check{Name: nameNetworks, Looks: "the last comparison of the cluster's networks with those of this host's Docker", Look: func(ctx context.Context) Finding {
		if none != "" {
			return NotApplicable("%s", none)
		}
		if found := troubles(); len(found) > 0 {
			return Error(strings.Join(found, "; "), "", "as said; it is tried again by itself")
		}
		at, err := last()
		if err != nil { // an attempt may fail once, and is repeated at once
			select {
			case <-ctx.Done():
			case <-time.After(lookAgain):
			}
			at, err = last()
		}
		const cure = "see the store and Docker"
		switch ago := time.Since(at).Round(time.Second); {
		case err != nil && at.IsZero():
			return Unknown("the networks can't be compared: "+err.Error(), cure)
		case err != nil:
			return Unknown(fmt.Sprintf("the networks can't be compared: %v; all were as the cluster had them %v ago", err, ago), cure)
		case at.IsZero():
			return Unknown("the networks were not compared yet since the agent's start", "wait a moment; "+cure)
		case ago > comparedLately:
			return Unknown(fmt.Sprintf("the last comparison that ended was %v ago", ago), cure)
		default:
			return OK("all were here as the cluster has them %v ago", ago)
		}
	}}
}

// Cluster looks at the cluster that the agent is part of by itself; status is nil where there is none.
func Cluster(status func(context.Context) (adminapi.ClusterStatus, error)) Check {
	return Check{Name: nameCluster, Looks: "what this host is in the cluster that hosts form by themselves", Look: func(ctx context.Context) Finding {
		if status == nil {
			return NotApplicable("this host's agent forms no cluster by itself")
		}
		st, err := status(ctx)
		if err != nil {
			return Unknown(err.Error(), "socketplane cluster status")
		}
		trouble := st.Trouble
		if trouble == "" {
			trouble = "nothing is known that keeps it from that"
		}
		switch {
		case st.State == "alone":
			return Warning("this host has left its cluster: "+trouble, "", "socketplane cluster join ADDRESS, or socketplane cluster init")
		case st.State != "member":
			return Error(fmt.Sprintf("this host is not in one yet (%s): %s", st.State, trouble), "", "wait a moment; 'socketplane cluster status' tells how far it is")
		case st.Trouble != "":
			return Error(st.Trouble, "", "as said; it is tried again by itself")
		case len(st.Foreign) > 0:
			return Warning(fmt.Sprintf("%d other clusters are on this segment, at %s", len(st.Foreign), strings.Join(st.Foreign[0].Hosts, ", ")), "",
				"to unite two, 'socketplane cluster leave' and 'socketplane cluster join ADDRESS' on the hosts of one")
		}
		servers := 0
		for _, m := range st.Members {
			if m.Role == "server" {
				servers++
			}
		}
		access := "open: any machine that reaches a host's cluster port (--cluster-port) becomes a member by asking, and may become a server with all keys ('socketplane cluster lock' closes it)"
		if st.Locked {
			access = "locked: a host needs a token to join"
		}
		return OK("%d hosts, %d of them servers; %s", len(st.Members), servers, access)
	}}
}
