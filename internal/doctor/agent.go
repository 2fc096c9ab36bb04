package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// AgentUp is the agent's own word that it runs: who answers this check does. It looks for a second one on this host, such as the managed plugin
// beside the package: both would have the same bridge and links.
func AgentUp(files Files, version string, started time.Time) Check {
	return Check{Name: nameAgent, Looks: "the agent's answer, and whether another agent runs on this host", Look: func(context.Context) Finding {
		other, runs := files.agent(func(pid int) bool {
			known, same := files.namespace(pid)
			return known && same && pid != os.Getpid()
		})
		if runs {
			return Error(fmt.Sprintf("another agent runs on this host (process %d)", other.PID), "the two remove each other's links and flows, so that containers lose their networks",
				fmt.Sprintf("end one of the two: kill %d; and keep it from starting again ('systemctl disable socketplane', or 'docker plugin disable' for the managed plugin)", other.PID))
		}
		return OK("%s answers, since %s", version, started.Format(time.RFC3339))
	}}
}

// Start tells that the agent answers, and can't start or serve all that it should.
func Start(saw, cure string) Check {
	return Check{Name: nameAgent, Looks: "what the agent says of its start and its sockets", Look: func(context.Context) Finding {
		return Error(saw, "Docker is refused what it asks for on networks of SocketPlane; containers that run keep talking", cure)
	}}
}

// askHealth asks the agent for its life, over its admin socket.
const askHealth = "GET /healthz HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"

// Answers says whether the agent answers at its admin socket, in a moment.
func Answers(ctx context.Context, adminSocket string) bool {
	return askSocket(ctx, adminSocket, []byte(askHealth)).err == nil
}

// Agent looks from outside why an agent does not answer. unit says what the service manager says of it; "" if there is none.
func Agent(files Files, adminSocket string, unit func(context.Context) string) Check {
	return Check{Name: nameAgent, Looks: "an answer of the agent at " + adminSocket + ", and the unit socketplane.service", Look: func(ctx context.Context) Finding {
		s := askSocket(ctx, adminSocket, []byte(askHealth))
		state := unit(ctx)
		tail := ""
		if state != "" {
			tail = "; " + state
		}
		switch {
		case s.err == nil:
			return OK("it answers")
		case errors.Is(s.err, fs.ErrNotExist):
			return files.withoutSocket("there is no socket "+adminSocket, tail)
		case errors.Is(s.err, syscall.ECONNREFUSED):
			return files.withoutSocket("nobody serves "+adminSocket, tail)
		case errors.Is(s.err, fs.ErrPermission):
			return Unknown("permission denied on "+adminSocket, "run 'socketplane doctor' as root, for example with sudo")
		case s.silent:
			f, stopped := files.hangs(s.pid, "the agent", adminSocket, "systemctl restart socketplane", withoutAgent)
			f.Saw += tail
			if !stopped {
				f.Cure += "; 'journalctl -u socketplane' has its last words"
			}
			return f
		}
		return Error(fmt.Sprintf("the agent at %s broke off: %v%s", adminSocket, s.err, tail), withoutAgent, "systemctl restart socketplane")
	}}
}

// withoutAgent is what follows when no agent answers.
const withoutAgent = "no container can be added to a network or taken from one; those that run keep talking"

// withoutSocket is the verdict where no process serves the admin socket, for the reason why: an agent that runs may have another, or have lost its own.
func (f Files) withoutSocket(why, tail string) Finding {
	p, runs := f.agent(func(pid int) bool {
		known, same := f.namespace(pid)
		return same || !known // one in another network namespace, such as a container's, serves another host
	})
	if runs {
		return p.unreachable("the agent", why+": it was removed or replaced, or this agent has another --admin-socket"+tail,
			"this command does not reach it", "systemctl restart socketplane.socket socketplane; or name the agent's socket with --admin-socket")
	}
	return Error("the agent does not run: "+why+tail, withoutAgent, "systemctl start socketplane, or 'socketplane agent'; 'journalctl -u socketplane' says why it ended")
}

// unitAnswer is how long systemd may take.
const unitAnswer = 2 * time.Second

// Unit asks systemd for the state of socketplane.service, such as "its unit is failed (exit-code)"; "" where there is no systemd.
func Unit(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, unitAnswer)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--property=LoadState,ActiveState,Result", "socketplane.service").Output()
	if err != nil {
		return ""
	}
	values := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[key] = value
	}
	switch {
	case values["LoadState"] == "not-found":
		return "there is no unit socketplane.service: 'socketplane install' makes one"
	case values["ActiveState"] == "":
		return ""
	case values["ActiveState"] == "active":
		return "its unit is active"
	}
	return fmt.Sprintf("its unit is %s (%s)", values["ActiveState"], values["Result"])
}

// Local are the settings with which a host is looked at whose agent does not answer.
type Local struct {
	Files                               Files
	Links                               Links
	AdminSocket, PluginSocket           string
	OVSDB, Bridge, DockerHost, StateDir string
	Unit                                func(context.Context) string
	// Managed says that the agent is Docker's managed plugin.
	Managed bool
	// Start takes the place of the look at the agent from outside, for an agent that answers but can't start; nil without.
	Start *Check
}

// Checks are all checks, in the order of Names, for a host whose agent does not answer. Those that need the agent say that they could not look.
func (l Local) Checks() []Check {
	l.Files.Contained = l.Files.Contained || l.Managed
	db := strings.TrimPrefix(l.OVSDB, "unix:")
	sw := Switch{Files: l.Files, DB: db, Mgmt: db[:strings.LastIndexByte(db, '/')+1] + l.Bridge + ".mgmt", Restart: RestartSwitch(l.Files)}
	own := map[string]Check{}
	for _, c := range []Check{
		Agent(l.Files, l.AdminSocket, l.Unit), KernelModule(l.Files, l.hasModule), sw.Daemons(), Forwarding(l.Files, l.Links, nil), Conntrack(l.Files),
		Docker{Files: l.Files, Host: l.DockerHost}.Check(),
		Sight{Files: l.Files, DockerHost: l.DockerHost, PluginSocket: l.PluginSocket, Managed: l.Managed}.Check(),
		Sockets([]Socket{{l.PluginSocket, 0o600}, {l.AdminSocket, 0o660}}, "systemctl restart socketplane.socket socketplane"),
		StateDir(l.Files, l.StateDir, nil, ""), // no process of ours has files of it open
	} {
		own[c.Name] = c
	}
	if l.Start != nil {
		own[nameAgent] = *l.Start
	}
	var all []Check
	for _, name := range Names() {
		c, there := own[name]
		if !there {
			c = Check{Name: name, Look: func(context.Context) Finding {
				return Unknown("only an agent that runs can", "see the agent")
			}}
		}
		if name == nameWay {
			c.Name += " other hosts"
		}
		all = append(all, c)
	}
	return all
}

// hasModule looks for the module as files show it.
func (l Local) hasModule() bool {
	if _, err := l.Files.count("/sys/module/openvswitch"); err == nil {
		return true
	}
	loaded, err := l.Files.Text("/proc/modules")
	return err == nil && strings.Contains("\n"+loaded, "\nopenvswitch ")
}
