package plugin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// firstFD is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstFD = 3

// maxFDs is above any number of sockets that one unit passes; more is a broken environment.
const maxFDs = 256

// Activated takes over the listening sockets that systemd passed to this process (LISTEN_PID, LISTEN_FDS,
// LISTEN_FDNAMES; see sd_listen_fds(3)): all of them, or only those with one of the given names (FileDescriptorName=
// of the .socket unit). The result is empty if there are none. Call it once for each name: the descriptors
// belong to the returned listeners afterwards. Closing a listener doesn't remove its socket, which is systemd's.
func Activated(names ...string) ([]net.Listener, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || count < 0 || count > maxFDs {
		return nil, fmt.Errorf("plugin: systemd's LISTEN_FDS=%q is no number of sockets", os.Getenv("LISTEN_FDS"))
	}
	fdNames := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	var listeners []net.Listener
	for i := range count {
		name := "unknown" // as sd_listen_fds_with_names(3) has it
		if i < len(fdNames) && fdNames[i] != "" {
			name = fdNames[i]
		}
		// Also those that aren't wanted must not reach the programs that the agent starts.
		syscall.CloseOnExec(firstFD + i)
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		l, err := takeListener(firstFD+i, name)
		if err != nil {
			for _, l := range listeners {
				err = errors.Join(err, l.Close())
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func takeListener(fd int, name string) (net.Listener, error) {
	listening, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	if err != nil {
		return nil, fmt.Errorf("plugin: systemd's descriptor %d (%s): %w", fd, name, err)
	}
	if listening == 0 {
		return nil, fmt.Errorf("plugin: systemd's descriptor %d (%s) doesn't listen: use ListenStream= and Accept=no in the .socket unit", fd, name)
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close() // FileListener has a duplicate
	l, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("plugin: systemd's descriptor %d (%s): %w", fd, name, err)
	}
	return l, nil
}
