package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// opLimit bounds one operation of Docker: a stopped dockerd answers when it goes on.
const opLimit = time.Minute

// ledger is who has which address, as far as users know: from the answer of docker run until they ask for the container's end.
type ledger struct {
	mu      sync.Mutex
	holders map[string]string // network and address to host and container
}

// take notes a container's addresses; it says whose they were if they are somebody's.
func (l *ledger) take(host, container string, on map[string]attachment) (rivals []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	me := host + "/" + container
	for network, a := range on {
		key := network + " " + a.IPAddress
		if other, held := l.holders[key]; held && other != me && a.IPAddress != "" {
			rivals = append(rivals, fmt.Sprintf("%s has %s and so has %s", me, key, other))
		}
		l.holders[key] = me
	}
	return rivals
}

// drop forgets what a container, or all of a host's, has.
func (l *ledger) drop(prefix string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, who := range l.holders {
		if who == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(who, prefix) {
			delete(l.holders, key)
		}
	}
}

// attachment is a container's place on a network, as Docker tells it.
type attachment struct {
	NetworkID, EndpointID, IPAddress, MacAddress string
}

// container is a running container.
type container struct {
	h    *lab.Host
	name string
	pid  int
	on   map[string]attachment // by network, only ours
}

// containers are the running ones of a host.
func containers(ctx context.Context, h *lab.Host, names ...string) ([]container, error) {
	if len(names) == 0 {
		out, err := h.Docker(ctx, "ps", "-q", "--no-trunc")
		if err != nil {
			return nil, err
		}
		if names = strings.Fields(out); len(names) == 0 {
			return nil, nil
		}
	}
	out, err := h.Docker(ctx, append([]string{"inspect", "--type", "container"}, names...)...)
	if err != nil {
		return nil, err
	}
	var wire []struct {
		Name            string
		State           struct{ Pid int }
		NetworkSettings struct{ Networks map[string]attachment }
	}
	if err := json.Unmarshal([]byte(out), &wire); err != nil {
		return nil, fmt.Errorf("docker inspect on %s: %w", h.Name, err)
	}
	var all []container
	for _, c := range wire {
		if c.State.Pid == 0 {
			continue
		}
		for name, a := range c.NetworkSettings.Networks {
			// What Docker could not connect, it lists without an endpoint.
			if name == "bridge" || name == "none" || name == "host" || a.EndpointID == "" {
				delete(c.NetworkSettings.Networks, name)
			}
		}
		all = append(all, container{h: h, name: strings.TrimPrefix(c.Name, "/"), pid: c.State.Pid, on: c.NetworkSettings.Networks})
	}
	return all, nil
}

// command runs a program of the image in the container's namespaces, without Docker.
func (c container) command(argv ...string) []string {
	return append(append(c.h.EnterCommand(), "nsenter", "--target", fmt.Sprint(c.pid), "--mount", "--net", "--uts"), argv...)
}

func (c container) exec(ctx context.Context, argv ...string) error {
	_, err := c.h.Exec(ctx, append([]string{"nsenter", "--target", fmt.Sprint(c.pid), "--mount", "--net", "--uts"}, argv...)...)
	return err
}

// do carries one operation out. What went wrong is for the caller to judge.
func (w *world) do(ctx context.Context, h *lab.Host, o op) error {
	ctx, cancel := context.WithTimeout(ctx, opLimit)
	defer cancel()
	if o.verb != "run" && o.verb != "connect" && o.container != "" {
		w.addrs.drop(h.Name + "/" + o.container)
	}
	var static []string
	if o.addr != "" {
		static = []string{"--ip", o.addr}
	}
	var args []string
	switch o.verb {
	case "run":
		args = append(append([]string{"run", "-d", "--name", o.container, "--network", o.network}, static...), lab.ImageName)
	case "connect":
		args = append(append([]string{"network", "connect"}, static...), o.network, o.container)
	case "disconnect":
		args = []string{"network", "disconnect", o.network, o.container}
	case "stop":
		args = []string{"stop", "-t", "0", o.container}
	case "rm":
		args = []string{"rm", "-f", o.container}
	case "create":
		args = []string{"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", o.network}
	case "remove":
		args = []string{"network", "rm", o.network}
	default:
		args = []string{o.verb, o.container}
	}
	if _, err := h.Docker(ctx, args...); err != nil {
		if o.verb == "run" { // Docker keeps a container that could not start.
			_, _ = h.Docker(ctx, "rm", "-f", o.container)
		}
		return err
	}
	switch o.verb {
	case "run", "start", "connect", "disconnect":
		return w.check(ctx, h, o.container)
	}
	return nil
}

// check demands that nobody else has what a container was just given.
func (w *world) check(ctx context.Context, h *lab.Host, name string) error {
	found, err := containers(ctx, h, name)
	if err != nil || len(found) == 0 {
		return err
	}
	for _, rival := range w.addrs.take(h.Name, name, found[0].on) {
		w.t.Errorf("an address is there twice: %s", rival)
	}
	return nil
}

// consequences are refusals that follow from an earlier operation's failure, or from two hosts that want one thing.
var consequences = []string{
	"No such container", "no such container", "is already in use", "not found", "is not connected", "is not running", "already exists",
	"has active endpoints", "No such network", "is already attached", "in use", "being removed", "marked for removal", "is already running",
	"still use", "endpoint with name",
}

func isConsequence(err error) bool {
	for _, text := range consequences {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}
