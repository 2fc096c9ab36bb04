package lab

import (
	"syscall"

	"github.com/socketplane/socketplane/internal/testenv"
)

// Daemon names one of a host's processes that live as long as the host does.
type Daemon string

// The daemons, by the names of their logs.
const (
	Agent    Daemon = "agent"
	Dockerd  Daemon = "dockerd"
	VSwitchd Daemon = "ovs-vswitchd"
	OVSDB    Daemon = "ovsdb-server"
)

// Daemons are all of them.
func Daemons() []Daemon { return []Daemon{Agent, Dockerd, VSwitchd, OVSDB} }

// Signal sends a signal to a daemon; nothing happens to one that does not run.
func (h *Host) Signal(d Daemon, sig syscall.Signal) {
	if p := h.process(d); p != nil {
		p.Signal(sig)
	}
}

// Pid is a daemon's process id on the machine; 0 when it does not run.
func (h *Host) Pid(d Daemon) int {
	if p := h.process(d); p != nil {
		return p.Pid()
	}
	return 0
}

func (h *Host) process(d Daemon) *testenv.Process {
	switch d {
	case Agent:
		return h.agent
	case Dockerd:
		return h.dockerd
	case VSwitchd:
		return h.vswitchd
	case OVSDB:
		return h.ovsdb
	}
	return nil
}

// Pid is the server's process id on the machine; 0 when it does not run.
func (c *Consul) Pid() int {
	if c.proc == nil {
		return c.opened.Pid
	}
	return c.proc.Pid()
}
