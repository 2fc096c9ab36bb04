package agent

import (
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"testing"
)

// TestFullPlace: the cure for a full file system names the directory that is full.
func TestFullPlace(t *testing.T) {
	socket := &net.OpError{Op: "listen", Net: "unix", Addr: &net.UnixAddr{Net: "unix", Name: "/run/docker/plugins/socketplane.sock"}, Err: syscall.ENOSPC}
	for want, err := range map[string]error{
		"df -h /run/docker/plugins;":    fmt.Errorf("plugin: %w", socket),
		"df -h /var/lib/socketplane;":   fmt.Errorf("open: %w", &fs.PathError{Op: "open", Path: "/var/lib/socketplane/local.db", Err: syscall.ENOSPC}),
		"df -i /var/lib/elsewhere)":     fmt.Errorf("write: %w", syscall.ENOSPC),
		"df -h /var/lib/elsewhere; df ": &net.OpError{Op: "listen", Net: "tcp", Addr: &net.TCPAddr{}, Err: syscall.ENOSPC},
	} {
		if said := causeOf(err, "/var/lib/elsewhere").Error(); !strings.Contains(said, want) {
			t.Errorf("%q does not say %q", said, want)
		}
	}
}
