// Package sdnotify tells systemd how the agent does (sd_notify(3)). It owns the protocol of NOTIFY_SOCKET and takes that variable from the environment.
//
// It imports the standard library only, and must not know what is told.
package sdnotify

import (
	"net"
	"os"
	"strings"
)

// Notifier tells systemd; without systemd, and as the zero value, it tells nothing. Its methods may be called concurrently.
type Notifier struct{ socket string }

// New takes systemd's socket from the environment. Programs that the agent starts don't have it then: Consul would
// speak for the agent.
func New() Notifier {
	const name = "NOTIFY_SOCKET"
	n := Notifier{os.Getenv(name)}
	_ = os.Unsetenv(name) // fails for malformed names only
	return n
}

// Ready says that the sockets are served, so that Docker may start.
func (n Notifier) Ready() { n.send("READY=1\nSTATUS=starting") }

// Status is shown by systemctl status.
func (n Notifier) Status(text string) { n.send("STATUS=" + text) }

// send tells systemd, which need not be there: nothing depends on it.
func (n Notifier) send(text string) {
	if n.socket == "" {
		return
	}
	path := n.socket
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:] // an abstract socket
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(text))
}
