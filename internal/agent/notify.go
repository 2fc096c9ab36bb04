package agent

import (
	"net"
	"os"
	"strings"
)

// notifier tells systemd how the agent does (sd_notify(3)). The zero notifier tells nobody.
type notifier struct{ socket string }

// newNotifier takes systemd's socket from the environment. Programs that the agent starts don't have it then: Consul would
// speak for the agent.
func newNotifier() notifier {
	const name = "NOTIFY_SOCKET"
	n := notifier{os.Getenv(name)}
	_ = os.Unsetenv(name) // fails for malformed names only
	return n
}

// ready says that the sockets are served, so that Docker may start.
func (n notifier) ready() { n.send("READY=1\nSTATUS=starting") }

// status is shown by systemctl status.
func (n notifier) status(text string) { n.send("STATUS=" + text) }

// send tells systemd, which need not be there: nothing depends on it.
func (n notifier) send(text string) {
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
