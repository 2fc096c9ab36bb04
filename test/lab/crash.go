package lab

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/testenv"
)

// CrashAgent ends the agent that serves the host's admin socket as a crash would, whoever started it. The kernel says which process that is, and the
// signal goes to that very process: there is no number or name by which another one could be meant.
func (h *Host) CrashAgent(ctx context.Context) error {
	pid, err := h.serving()
	if err != nil {
		return err
	}
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("the agent of %s: %w", h.Name, err)
	}
	defer syscall.Close(process)
	// It still serves, so what was opened is it, and not a later process of its number.
	if again, err := h.serving(); err != nil || again != pid {
		return fmt.Errorf("the agent of %s has just ended by itself", h.Name)
	}
	if err := unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0); err != nil {
		return fmt.Errorf("end the agent of %s: %w", h.Name, err)
	}
	return testenv.Poll(ctx, 10*time.Millisecond, func() bool { return !h.Listening(AdminSocket) })
}

// serving is the process on the machine that serves the host's admin socket.
func (h *Host) serving() (int, error) {
	conn, err := net.Dial("unix", h.runPath(strings.TrimPrefix(AdminSocket, "/run/")))
	if err != nil {
		return 0, fmt.Errorf("no agent runs on %s: %w", h.Name, err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("the agent of %s: %w", h.Name, err)
	}
	var peer *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, fmt.Errorf("the agent of %s: %w", h.Name, err)
	}
	if failed != nil || peer.Pid <= 1 {
		return 0, fmt.Errorf("the agent of %s: the kernel does not say which process it is: %v, %w", h.Name, peer, failed)
	}
	return int(peer.Pid), nil
}
