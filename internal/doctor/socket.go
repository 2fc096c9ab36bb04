package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// socketAnswer is how long a local daemon may take for an answer that costs it nothing.
const socketAnswer = 2 * time.Second

// served is what was seen at a daemon's unix socket.
type served struct {
	// err is nil if the daemon answered.
	err error
	// silent says that the connection was taken and nothing came; pid is who listens there, 0 if it is not known.
	silent bool
	pid    int
}

// askSocket connects to a unix socket, writes ask, and waits for at least one byte.
func askSocket(ctx context.Context, path string, ask []byte) served {
	ctx, cancel := context.WithTimeout(ctx, socketAnswer)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		// A listener whose queue is full because nobody accepts.
		return served{err: err, silent: errors.Is(err, syscall.EAGAIN) || errors.Is(err, context.DeadlineExceeded)}
	}
	defer conn.Close()
	s := served{pid: listener(conn)}
	if deadline, ok := ctx.Deadline(); ok {
		s.err = conn.SetDeadline(deadline)
	}
	if s.err == nil && len(ask) > 0 {
		_, s.err = conn.Write(ask)
	}
	if s.err == nil {
		_, s.err = io.ReadFull(conn, make([]byte, 1))
	}
	s.silent = errors.Is(s.err, os.ErrDeadlineExceeded)
	return s
}

// listener is the process that listens at the other end.
func listener(conn net.Conn) int {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return 0
	}
	var cred *syscall.Ucred
	err = raw.Control(func(fd uintptr) {
		cred, _ = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED) // nil with an error
	})
	if err != nil || cred == nil {
		return 0
	}
	return int(cred.Pid)
}

// daemon says what is wrong with a daemon by what was seen at its socket. start is the command that starts it.
func (s served) daemon(files Files, name, path, start string, follows string) (Finding, bool) {
	switch {
	case s.err == nil:
		return Finding{}, false
	case errors.Is(s.err, fs.ErrNotExist):
		if p, runs := files.beside(path, name); runs {
			return p.unreachable(name, "there is no socket "+path+": it was removed, or could not be made",
				"nobody can ask it for anything: no container can be added to a network or taken from one; those that run keep talking", start), true
		}
		if cure, missing := files.notInstalled(name); missing {
			return Error(fmt.Sprintf("%s does not run: there is no socket %s, and the program is in none of the usual directories", name, path), follows, cure), true
		}
		return Error(fmt.Sprintf("%s does not run: there is no socket %s", name, path), follows, start), true
	case errors.Is(s.err, syscall.ECONNREFUSED):
		return Error(fmt.Sprintf("%s does not run: nobody serves its socket %s", name, path), follows, start), true
	case errors.Is(s.err, fs.ErrPermission):
		return forbidden(path, os.Geteuid(), follows), true
	case !s.silent:
		return Error(fmt.Sprintf("%s at %s broke off: %v", name, path, s.err), follows, start), true
	}
	f, _ := files.hangs(s.pid, name, path, start, follows)
	return f, true
}

// forbidden is the verdict where a socket may not be used. To root that is denied by something that is not the file's mode.
func forbidden(path string, euid int, follows string) Finding {
	if euid != 0 {
		return Unknown(fmt.Sprintf("permission denied on %s", path), "run 'socketplane doctor' as root")
	}
	return Error(fmt.Sprintf("permission denied on %s, though this program runs as root: SELinux, AppArmor or the sandbox of a unit or a container denies it", path), follows,
		"'ausearch -m avc -ts recent' (SELinux) or 'dmesg | grep DENIED' (AppArmor) shows the denial; let the agent use the socket")
}

// contained says that the files are a container's, whose own programs are not the host's.
func (f Files) contained() bool {
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} { // of Docker and of Podman
		if _, err := os.Stat(filepath.Join("/", f.Root, mark)); err == nil {
			return true
		}
	}
	return f.Contained
}

// notInstalled gives the cure where a daemon's program is not on this host; false where it is, or is not looked for.
func (f Files) notInstalled(name string) (cure string, missing bool) {
	const switches = "install Open vSwitch: apt-get install openvswitch-switch (Debian, Ubuntu), dnf install openvswitch (Fedora and its kin)"
	if f.contained() {
		return "", false
	}
	program, cure := name, switches
	switch name {
	case "ovsdb-server", "ovs-vswitchd":
	case "Docker":
		program, cure = "dockerd", dockerPackages
	default:
		return "", false
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/sbin", "/bin", "/snap/bin", "/opt/bin", "/run/current-system/sw/bin"} {
		if _, err := os.Stat(filepath.Join("/", f.Root, dir, program)); err == nil {
			return "", false
		}
	}
	if _, err := exec.LookPath(program); err == nil && f.Root == "" {
		return "", false
	}
	return cure + "; where it is installed in another place, start it there", true
}

// beside finds a daemon by the process id in the file that it writes beside its socket. A missing socket is no sign that the daemon
// does not run: another program may have removed the socket.
func (f Files) beside(socket, name string) (Process, bool) {
	text, err := f.Text(filepath.Join(filepath.Dir(socket), name+".pid"))
	if err != nil {
		return Process{}, false
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return Process{}, false
	}
	p, err := f.Process(pid)
	return p, err == nil && p.Exists && p.Name == name
}

// unreachable is the verdict on a process that runs without the socket at which it is asked; why says what is wrong with that.
func (p Process) unreachable(name, why, follows, restart string) Finding {
	if p.Stopped {
		return Error(fmt.Sprintf("%s (process %d) is stopped by a signal (SIGSTOP, or a debugger), and %s", name, p.PID, why), follows, fmt.Sprintf("kill -CONT %d; %s", p.PID, restart))
	}
	return Error(fmt.Sprintf("%s runs (process %d), but %s", name, p.PID, why), follows, restart)
}

// hangs is what a process does that takes connections and answers nothing; stopped says that a signal stopped it.
func (f Files) hangs(pid int, name, path, start, follows string) (Finding, bool) {
	who := name
	if p, err := f.Process(pid); pid != 0 && err == nil {
		who = fmt.Sprintf("%s (process %d)", name, pid)
		if p.Stopped {
			return Error(fmt.Sprintf("%s is stopped by a signal (SIGSTOP, or a debugger): it takes connections at %s and answers nothing", who, path),
				follows, fmt.Sprintf("kill -CONT %d", pid)), true
		}
	}
	return Error(fmt.Sprintf("%s hangs: it takes connections at %s and answers nothing within %v", who, path, socketAnswer), follows, start), false
}
