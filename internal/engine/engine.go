// Package engine tells which process calls Docker's plugin socket: the Docker Engine whose API the agent uses, or another one
// on this host that shares the directory of plugin sockets.
//
// It owns no state. It reads /proc and dials the engine's API socket, without asking the API anything: a local socket
// connects at once or not at all. It imports the standard library only.
package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrOther says that a call came from another engine than the agent's.
var ErrOther = errors.New("another Docker Engine")

// dialLimit bounds the connection to the engine's API socket.
const dialLimit = 200 * time.Millisecond

// Verdict is what is known of a caller.
type Verdict string

// The verdicts.
const (
	Ours  Verdict = "ours"
	Other Verdict = "other"
	// Unknown is said where processes can't be compared: the API is reached by a proxy or over TCP, or the caller is in a PID
	// namespace that this process does not see.
	Unknown Verdict = "unknown"
)

// Engine is the engine whose API the agent uses.
type Engine struct {
	// Host is the address of its API, unix://PATH or another.
	Host string
	// Proc is where processes are seen, "/proc".
	Proc string
}

// New is the engine at this address.
func New(host string) Engine { return Engine{Host: host, Proc: "/proc"} }

// Judge says whether the process with this id is the engine. 0 is a process that can't be seen.
func (e Engine) Judge(ctx context.Context, pid int) Verdict {
	socket, local := strings.CutPrefix(e.Host, "unix://")
	if pid <= 0 || !local {
		return Unknown
	}
	serves, err := peerOf(ctx, socket)
	if err != nil || serves <= 0 {
		return Unknown
	}
	name := e.name(pid)
	switch {
	case serves == pid:
		return Ours
	case name == "":
		return Unknown
	case e.name(serves) == name:
		return Other
	}
	// A service manager or a proxy made the socket. The engine's pid file is beside it, unless it was moved.
	kept := pidFile(filepath.Join(filepath.Dir(socket), "docker.pid"))
	switch {
	case kept == pid:
		return Ours
	case kept > 0 && e.name(kept) == name && !e.activated(pid):
		return Other
	}
	return Unknown
}

// Mark names a process so that it is not taken for a later one with its id; "" for one that can't be seen.
func (e Engine) Mark(pid int) string {
	start := e.started(pid)
	if start == "" {
		return ""
	}
	return fmt.Sprintf("%d@%s", pid, start)
}

// Lives says whether the process with this mark runs.
func (e Engine) Lives(mark string) bool {
	text, _, _ := strings.Cut(mark, "@")
	pid, err := strconv.Atoi(text)
	return err == nil && e.Mark(pid) == mark
}

// name is the process's name, "" if it can't be read.
func (e Engine) name(pid int) string {
	text, err := os.ReadFile(filepath.Join(e.Proc, strconv.Itoa(pid), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// activated says whether the process takes its API socket from a service manager, as its command line tells.
func (e Engine) activated(pid int) bool {
	text, err := os.ReadFile(filepath.Join(e.Proc, strconv.Itoa(pid), "cmdline"))
	return err != nil || strings.Contains(string(text), "fd://")
}

// started is when the process began, in ticks since the machine did: field 22 of proc(5)'s stat, of which the second, in parentheses, may have blanks.
func (e Engine) started(pid int) string {
	const behindName = 22 - 3
	text, err := os.ReadFile(filepath.Join(e.Proc, strconv.Itoa(pid), "stat"))
	if pid <= 0 || err != nil {
		return ""
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) <= behindName {
		return ""
	}
	return fields[behindName]
}

// pidFile reads a process id, 0 if there is none.
func pidFile(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// peerOf is the process that made the listening socket.
func peerOf(ctx context.Context, socket string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	return PeerPID(conn)
}

// PeerPID is the process at the other end of a unix connection (SO_PEERCRED): who connected, or who made the socket. It is 0 for one in another
// PID namespace.
func PeerPID(conn net.Conn) (int, error) {
	raw, ok := conn.(syscall.Conn)
	if !ok {
		return 0, errors.New("this connection has no socket")
	}
	control, err := raw.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var failed error
	err = control.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(err, failed); err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
