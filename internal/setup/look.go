package setup

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Origin says where the service of this host comes from.
type Origin int

// The origins.
const (
	None Origin = iota
	FromPackage
	FromBinary // Install
)

// Service is the agent's service as this host has it.
type Service struct {
	Origin Origin
	// Copied is the binary that Install has copied, empty if none.
	Copied string
}

// Look finds the service of this host.
func Look() (Service, error) {
	text, err := os.ReadFile(filepath.Join(unitDir, "socketplane.service"))
	if err == nil && strings.HasPrefix(string(text), mark) {
		s := Service{Origin: FromBinary}
		for line := range strings.Lines(string(text)) {
			if path, ok := strings.CutPrefix(line, binaryMark); ok {
				s.Copied = strings.TrimSpace(path)
			}
		}
		return s, nil
	}
	if err == nil {
		return Service{}, fmt.Errorf("%s is there, and not of 'socketplane install': remove it first", filepath.Join(unitDir, "socketplane.service"))
	}
	if _, err := os.Stat(packageUnit); err == nil {
		return Service{Origin: FromPackage}, nil
	}
	return Service{}, nil
}

// Finding is what a look at one prerequisite gave.
type Finding struct {
	Name, Text string
	// State is "ok", "warning" (the service is set up, and waits for it) or "error".
	State string
	Cure  string
}

// The states of findings.
const (
	OK      = "ok"
	Warning = "warning"
	Error   = "error"
)

// dialTimeout bounds the question whether a local socket is served.
const dialTimeout = time.Second

// Check looks for what a host needs.
func Check(ctx context.Context) []Finding {
	list := []Finding{{Name: "systemd", Text: "runs", State: OK}}
	if _, err := exec.LookPath("systemctl"); err != nil {
		list[0] = Finding{Name: "systemd", Text: "is not here", State: Error, Cure: "run 'socketplane agent' by the service manager that is"}
	} else if _, err := os.Stat(stateOfRun); err != nil {
		list[0] = Finding{Name: "systemd", Text: "does not run: the service is set up, and starts with the machine", State: Warning}
	}
	if os.Geteuid() != 0 {
		list = append(list, Finding{Name: "rights", Text: "only root can set up a service", State: Error, Cure: "run this command as root, for example with sudo"})
	}
	list = append(list,
		served("Docker", "/var/run/docker.sock", "install Docker Engine 20.10 or newer, or start it: systemctl start docker"),
		served("Open vSwitch", "/run/openvswitch/db.sock", "install and start it: apt-get install openvswitch-switch, or dnf install openvswitch && systemctl enable --now openvswitch"))
	if text, err := os.ReadFile("/proc/net/unix"); err == nil && strings.Contains(string(text), "/host/run/docker/plugins/socketplane.sock") {
		list = append(list, Finding{Name: "managed plugin", Text: "runs on this host, and two agents would undo each other's work", State: Error,
			Cure: "docker plugin disable socketplane/plugin:latest, and remove it"})
	}
	return list
}

func served(name, socket, cure string) Finding {
	conn, err := net.DialTimeout("unix", socket, dialTimeout)
	if err != nil {
		return Finding{Name: name, Text: "does not answer on " + socket + "; the agent will wait for it", State: Warning, Cure: cure}
	}
	_ = conn.Close()
	return Finding{Name: name, Text: "answers on " + socket, State: OK}
}
