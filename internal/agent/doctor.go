package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/store"
)

// storeAnswer is how long the store may take to answer.
const storeAnswer = 5 * time.Second

// Doctor looks at everything that this host needs.
func (a *agent) Doctor(ctx context.Context) ([]adminapi.Check, error) {
	checks := []func(context.Context) adminapi.Check{
		a.checkKernel, a.checkSwitch, a.checkTSO, a.checkStore, a.checkCluster, a.checkClocks, a.checkDocker, a.checkSockets, a.checkState,
		a.checkNetworks,
	}
	var out []adminapi.Check
	for _, check := range checks {
		began := time.Now()
		c := check(ctx)
		if c.Name == "" {
			continue // this host has no such thing
		}
		c.Took = time.Since(began)
		out = append(out, c)
	}
	return append(out, a.checkPeers(ctx)...), nil
}

func ok(name, format string, args ...any) adminapi.Check {
	return adminapi.Check{Name: name, State: adminapi.CheckOK, Text: fmt.Sprintf(format, args...)}
}

func (a *agent) checkKernel(context.Context) adminapi.Check {
	const name = "kernel module"
	if a.links.HasKernelDatapath() {
		return ok(name, "the kernel has openvswitch")
	}
	return adminapi.Check{Name: name, State: adminapi.CheckWarn,
		Text: "the kernel has no openvswitch: packets are forwarded in user space, which is slower",
		Cure: "modprobe openvswitch, where the kernel comes with it, and restart Open vSwitch and the agent"}
}

func (a *agent) checkSwitch(ctx context.Context) adminapi.Check {
	const name = "Open vSwitch"
	st, version := a.plane.Status(), cmp.Or(a.sw.Version(ctx), "of unknown version")
	if err := a.plane.Ready(); err != nil {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: err.Error(), Cure: a.restartSwitch()}
	}
	if st.Err != nil {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: st.Err.Error(), Cure: a.ownLog() + " says more"}
	}
	return ok(name, "%s, datapath %s, tunnel %s, %d flows", version, st.Datapath, st.Tunnel, st.Flows)
}

func (a *agent) checkTSO(context.Context) adminapi.Check {
	const name = "segmentation offload"
	st := a.plane.Status()
	switch {
	case st.Datapath != "netdev":
		return ok(name, "the kernel's own")
	case st.TSO && st.Tunnel == "ovs":
		return adminapi.Check{Name: name, State: adminapi.CheckBad,
			Text: "userspace-tso-enable does not work with tunnels of Open vSwitch in user space",
			Cure: "ovs-vsctl remove open_vswitch . other_config userspace-tso-enable && systemctl restart openvswitch-switch"}
	case !st.TSO && st.Tunnel == "kernel":
		return adminapi.Check{Name: name, State: adminapi.CheckWarn,
			Text: "off: large transfers are several times slower than they could be",
			Cure: "ovs-vsctl set open_vswitch . other_config:userspace-tso-enable=true && systemctl restart openvswitch-switch"}
	case st.TSO:
		return ok(name, "on, in user space")
	}
	return ok(name, "off, as this tunnel needs it")
}

func (a *agent) checkStore(ctx context.Context) adminapi.Check {
	const name = "store"
	ctx, cancel := context.WithTimeout(ctx, storeAnswer)
	defer cancel()
	began := time.Now()
	members, err := a.cluster.Hosts(ctx)
	switch {
	case err != nil:
		cure := "start Consul, or give its address with --consul-addr"
		if a.storage.managed != nil {
			cure = "see the cluster"
		}
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: err.Error(), Cure: cure}
	case a.storage.kind == config.StoreBolt:
		return adminapi.Check{Name: name, State: adminapi.CheckWarn, Text: "a file of this host: networks reach no other host",
			Cure: "give the agents one Consul with --consul-addr"}
	case !members.Alive[a.cluster.Host()]:
		return adminapi.Check{Name: name, State: adminapi.CheckWarn, Text: "other hosts take this host's agent for down",
			Cure: "wait a minute; " + a.ownLog() + " says why if it stays"}
	}
	return ok(name, "%s at %s answers in %v; %d hosts, %d up", a.storage.kind, a.storage.address,
		time.Since(began).Round(time.Millisecond), len(members.Hosts), len(members.Alive))
}

func (a *agent) checkDocker(ctx context.Context) adminapi.Check {
	const name = "Docker"
	if a.docker == nil {
		return adminapi.Check{Name: name, State: adminapi.CheckWarn, Text: "its API is not used: networks are not created on other hosts",
			Cure: "leave out --docker-host none"}
	}
	if err := a.docker.Ready(); err != nil {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: err.Error(), Cure: "systemctl start docker"}
	}
	networks, err := a.docker.Networks(ctx)
	if err != nil {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: err.Error(), Cure: "systemctl restart docker"}
	}
	return ok(name, "answers at %s, has %d networks of SocketPlane", a.cfg.DockerHost, len(networks))
}

func (a *agent) checkSockets(context.Context) adminapi.Check {
	const name = "sockets"
	var wrong []string
	// The package's unit gives the command line's socket to a group.
	sockets := map[string]fs.FileMode{a.cfg.PluginSocket: 0o600, a.cfg.AdminSocket: 0o660}
	if a.isPlugin() {
		sockets[a.opts.V1Socket] = 0o600
	}
	for path, allowed := range sockets {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, path+" is gone")
		case err != nil:
			wrong = append(wrong, err.Error())
		case info.Mode().Perm()&^allowed != 0:
			wrong = append(wrong, fmt.Sprintf("%s has mode %o: too many may use it", path, info.Mode().Perm()))
		}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: strings.Join(wrong, "; "), Cure: a.restartSelf()}
	}
	return ok(name, "all are there, and not for everybody")
}

// restartSelf, restartSwitch and ownLog are what people do or look at, by how the agent was installed.
func (a *agent) restartSelf() string {
	if a.isPlugin() {
		return "docker plugin disable -f socketplane/plugin:latest, and docker plugin enable socketplane/plugin:latest (the name that docker plugin ls shows)"
	}
	return "systemctl restart socketplane"
}

func (a *agent) restartSwitch() string {
	if a.isPlugin() && a.cfg.OVSDB == config.OwnOVSDB {
		return a.restartSelf()
	}
	return "systemctl restart openvswitch-switch"
}

func (a *agent) ownLog() string {
	if a.isPlugin() {
		return "journalctl -u docker"
	}
	return "journalctl -u socketplane"
}

func (a *agent) checkState(ctx context.Context) adminapi.Check {
	const name = "stale state"
	var found []string
	if a.pending(ctx) {
		found = append(found, "something that was removed waits for the store or the switch")
	}
	networks, err := a.cluster.Networks(ctx)
	if err != nil {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: err.Error(), Cure: "see the store"}
	}
	members, err := a.cluster.Hosts(ctx)
	if err != nil {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: err.Error(), Cure: "see the store"}
	}
	left, err := a.leftovers(ctx, members)
	if err != nil {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: err.Error(), Cure: "see the store"}
	}
	found = append(found, left...)
	for _, n := range networks {
		if n.State == store.Deleting {
			found = append(found, fmt.Sprintf("network %s is removed, but %d hosts still have it", n.Title(), len(n.Hosts)))
		}
	}
	if len(found) > 0 {
		return adminapi.Check{Name: name, State: adminapi.CheckWarn, Text: strings.Join(found, "; "),
			Cure: "it goes by itself, or when those hosts are back; 'socketplane host rm' forgets one that will not come back"}
	}
	return ok(name, "none")
}

func (a *agent) checkNetworks(context.Context) adminapi.Check {
	const name = "networks"
	if a.mirror == nil || !a.cfg.Mirror {
		return ok(name, "are made by hand on this host")
	}
	var found []string
	for _, t := range a.mirror.Troubles() {
		found = append(found, t.Name+": "+t.Text)
	}
	if len(found) > 0 {
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: strings.Join(found, "; "), Cure: "as said; it is tried again by itself"}
	}
	return ok(name, "all are here as the cluster has them")
}
