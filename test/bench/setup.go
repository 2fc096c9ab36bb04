package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// metricsAddr is where each agent serves its metrics, inside its host.
const metricsAddr = "127.0.0.1:9464"

// world is what is measured.
type world struct {
	opts  Options
	began time.Time
	// kernel has ordinary NICs; ovs has hosts whose NIC lies in an Open vSwitch bridge.
	kernel, ovs *lab.Lab

	paths    []path
	launches []launch
}

// site is the SocketPlane of one lab.
type site struct {
	name string
	lab  *lab.Lab
}

func (w *world) sites() []site {
	return []site{{nameKernel, w.kernel}, {nameOVS, w.ovs}}
}

// Names of what is compared.
const (
	nameKernel   = "SocketPlane, tunnel `kernel`"
	nameOVS      = "SocketPlane, tunnel `ovs`"
	nameSwarm    = "Swarm overlay"
	nameBridge   = "Docker bridge"
	nameUnderlay = "bare underlay"
	namePlain    = "plain OVS user-space VXLAN"
)

func (w *world) start(ctx context.Context) error {
	w.say("starting two labs of two hosts")
	if w.opts.Agent == "" {
		var err error
		if w.opts.Agent, err = lab.BuildAgent(ctx); err != nil {
			return err
		}
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { w.kernel, err = w.startLab(groupCtx, lab.TunnelKernel); return err })
	group.Go(func() (err error) { w.ovs, err = w.startLab(groupCtx, lab.TunnelOVS); return err })
	if err := group.Wait(); err != nil {
		return err
	}
	w.say("starting networks and containers")
	if err := startSwarm(ctx, w.kernel.Hosts); err != nil {
		return err
	}
	for _, h := range append(w.kernel.Hosts[:2:2], w.ovs.Hosts...) {
		_, err := h.Docker(ctx, "network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", "--subnet", "10.32.0.0/20", "web")
		if err != nil {
			return err
		}
	}
	for _, c := range []struct {
		name, network string
		lab           *lab.Lab
		near, far     bool
	}{
		{nameUnderlay, "host", w.kernel, false, true},
		{nameSwarm, "over", w.kernel, true, true},
		{nameKernel, "web", w.kernel, true, true},
		{nameOVS, "web", w.ovs, true, true},
		{nameBridge, "bridge", w.kernel, true, false},
	} {
		if err := w.addPaths(ctx, c.name, c.lab, c.network, c.near, c.far); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		if c.network != "host" {
			w.launches = append(w.launches, launch{name: c.name, host: c.lab.Hosts[0], network: c.network})
		}
	}
	w.launches = append(w.launches, launch{name: "no network (`--network none`)", host: w.kernel.Hosts[0], network: "none"})
	return w.addPlain(ctx)
}

func (w *world) startLab(ctx context.Context, tunnel lab.Tunnel) (*lab.Lab, error) {
	return lab.Start(ctx, lab.Options{
		Name: w.opts.Prefix + string(tunnel[0]), Hosts: 2, Tunnel: tunnel, Consul: true, Agent: w.opts.Agent,
		// The lab's agents log at debug level; a user's don't.
		AgentFlags: []string{"--log-level", "info", "--metrics-addr", metricsAddr},
	})
}

func (w *world) close() error {
	var errs []error
	for _, l := range []*lab.Lab{w.kernel, w.ovs} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// startSwarm makes a Swarm of the hosts, with an attachable overlay network.
func startSwarm(ctx context.Context, hosts []*lab.Host) error {
	manager := hosts[0]
	if _, err := manager.Docker(ctx, "swarm", "init", "--advertise-addr", manager.Addr.String()); err != nil {
		return err
	}
	token, err := manager.Docker(ctx, "swarm", "join-token", "-q", "worker")
	if err != nil {
		return err
	}
	for _, h := range hosts[1:] {
		_, err := h.Docker(ctx, "swarm", "join", "--token", strings.TrimSpace(token), "--advertise-addr", h.Addr.String(), manager.Addr.String()+":2377")
		if err != nil {
			return err
		}
	}
	_, err = manager.Docker(ctx, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.50.0.0/24", "over")
	return err
}

// serveScript is what servers run: iperf3 and the request-response server.
const serveScript = "iperf3 -s >/dev/null & exec labprobe rr-serve -for 1h"

// addPaths starts a client and a server on the first host of a lab, and a server on its second.
func (w *world) addPaths(ctx context.Context, name string, l *lab.Lab, network string, near, far bool) error {
	from := l.Hosts[0]
	if err := runIn(ctx, from, network, network+"-client"); err != nil {
		return err
	}
	add := func(to *lab.Host, isNear bool) error {
		server := network + "-server"
		if err := runIn(ctx, to, network, server, "sh", "-c", serveScript); err != nil {
			return err
		}
		addr := to.Addr.String()
		if network != "host" {
			out, err := to.Docker(ctx, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", server)
			if err != nil {
				return err
			}
			addr = strings.TrimSpace(out)
		}
		p := path{name: name, near: isNear, host: from, client: network + "-client", server: addr}
		w.paths = append(w.paths, p)
		return p.await(ctx)
	}
	var errs []error
	if far {
		errs = append(errs, add(l.Hosts[1], false))
	}
	if near {
		errs = append(errs, add(from, true))
	}
	return errors.Join(errs...)
}

func runIn(ctx context.Context, h *lab.Host, network, name string, command ...string) error {
	_, err := h.Docker(ctx, append([]string{"run", "-d", "--network", network, "--name", name, lab.ImageName}, command...)...)
	return err
}
