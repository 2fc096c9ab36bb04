package ownovs

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// hostMark is a file in the state directory: the host's Open vSwitch was used once.
const hostMark = "ovs-of-host"

// probeTimeout bounds the question whether the host's socket is served; local sockets answer at once or not at all.
const probeTimeout = time.Second

// HostHas says whether the host's Open vSwitch is to be used: its database answers on the socket, or did at an earlier
// start, and is only late. The answer is remembered in the directory.
func HostHas(socket, dir string) (bool, error) {
	mark := filepath.Join(dir, hostMark)
	conn, err := net.DialTimeout("unix", socket, probeTimeout)
	if err != nil {
		_, err := os.Stat(mark)
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return err == nil, err
	}
	_ = conn.Close()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("state directory: %w", err)
	}
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return false, fmt.Errorf("remember the host's Open vSwitch: %w", err)
	}
	return true, nil
}
