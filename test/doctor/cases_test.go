package doctor

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/test/lab"
)

// sicknesses are all misconfigurations.
func (w *ward) sicknesses() (all []sickness) {
	for _, kind := range [][]sickness{w.ofSwitch(), w.ofLinks(), w.ofFirewalls(), w.ofKernel(), w.ofDaemons(), w.ofFiles(), w.ofCluster(), w.ofAgent()} {
		all = append(all, kind...)
	}
	return all
}

func (w *ward) ofSwitch() []sickness {
	h := w.Hosts[0]
	return []sickness{
		{name: "ovs-vswitchd is stopped by a signal", harm: signal(h, lab.VSwitchd, syscall.SIGSTOP),
			check: "Open vSwitch", state: "error", words: []string{"ovs-vswitchd (process", "stopped by a signal", "kill -CONT"}},
		{name: "ovs-vswitchd is gone", harm: func(context.Context) error { h.KillVSwitch(); return nil },
			check: "Open vSwitch", state: "error", words: []string{"ovs-vswitchd does not run", "systemctl restart openvswitch-switch"}, mend: h.StartVSwitch},
		{name: "ovsdb-server is stopped by a signal", harm: signal(h, lab.OVSDB, syscall.SIGSTOP),
			check: "Open vSwitch", state: "error", words: []string{"ovsdb-server (process", "stopped by a signal", "kill -CONT"}},
		{name: "ovsdb-server is gone", harm: func(context.Context) error { h.KillOVSDB(); return nil },
			check: "Open vSwitch", state: "error", words: []string{"ovsdb-server does not run", "systemctl restart openvswitch-switch"}, mend: h.StartOVSDB},
		{name: "a port of somebody else on the bridge", harm: on(h, []string{"ovs-vsctl", "--timeout=20", "add-port", "socketplane0", "intruder", "--", "set", "Interface", "intruder", "type=internal"}),
			check: "bridge", state: "warning", words: []string{"intruder", "ovs-vsctl del-port socketplane0 intruder"}},
		{name: "a flow of somebody else on the bridge", harm: on(h, []string{"ovs-ofctl", "add-flow", "socketplane0", "cookie=0x77,priority=7,in_port=77,actions=drop"}),
			check: "bridge", state: "error", words: []string{"not SocketPlane's", "cookie=0x77", "ovs-ofctl"}},
		{name: "somebody removed flows", harm: on(h, []string{"ovs-ofctl", "del-flows", "socketplane0"}),
			check: "bridge", state: "warning", words: []string{"changed flows of SocketPlane", "has mended them", "find what else writes"}, mend: restart(h)},
		{name: "segmentation offload is off", harm: both(on(h, []string{"ovs-vsctl", "--timeout=20", "remove", "open_vswitch", ".", "other_config", "userspace-tso-enable"}), w.vswitchdAgain),
			check: "segmentation offload", state: "warning", words: []string{"off", "userspace-tso-enable=true"},
			mend: both(on(h, []string{"ovs-vsctl", "--timeout=20", "set", "open_vswitch", ".", "other_config:userspace-tso-enable=true"}), w.vswitchdAgain)},
	}
}

// vswitchdAgain restarts the first host's switch.
func (w *ward) vswitchdAgain(ctx context.Context) error {
	w.Hosts[0].KillVSwitch()
	return w.Hosts[0].StartVSwitch(ctx)
}

// routes gives back what a link loses when it goes down.
func routes(h *lab.Host) func(context.Context) error {
	return on(h, sh(fmt.Sprintf("ip addr replace %s/64 dev eth0 nodad; ip route replace default via 10.99.0.1 dev eth0; ip route replace ::/0 via fd99::1 dev eth0", h.Addr6)))
}

func (w *ward) ofLinks() []sickness {
	h1, h2 := w.Hosts[0], w.Hosts[1]
	way := "way to " + h2.Name
	return []sickness{
		{name: "the other host's link is down", harm: on(h2, []string{"ip", "link", "set", "eth0", "down"}),
			check: way, state: "error", words: []string{"nobody on the segment of eth0", h2.Addr.String(), "its link is down"}, never: []string{"firewall"},
			mend: on(h2, []string{"ip", "link", "set", "eth0", "up"}), after: routes(h2)},
		{name: "this host's link is down", harm: on(h1, []string{"ip", "link", "set", "eth0", "down"}),
			check: "tunnel address", state: "error", words: []string{"link eth0 is down", "ip link set eth0 up"}, never: []string{"firewall"}, after: routes(h1)},
		{name: "this host's link has no carrier", harm: func(ctx context.Context) error { return h1.SetUplink(ctx, false) },
			check: "tunnel address", state: "error", words: []string{"link eth0", "no carrier"}, never: []string{"firewall"},
			mend: func(ctx context.Context) error { return h1.SetUplink(ctx, true) }},
		{name: "there is no route", harm: on(h1, []string{"ip", "route", "add", "unreachable", h2.Addr.String() + "/32"}),
			check: way, state: "error", words: []string{"no route", h2.Addr.String(), "ip route get"}, never: []string{"firewall"},
			mend: on(h1, []string{"ip", "route", "del", "unreachable", h2.Addr.String() + "/32"})},
		{name: "the tunnel address is gone", harm: on(h1, []string{"ip", "addr", "del", h1.Addr.String() + "/16", "dev", "eth0"}),
			check: "tunnel address", state: "error", words: []string{h1.Addr.String(), "--advertise"}, never: []string{"firewall"},
			mend: on(h1, []string{"ip", "addr", "add", h1.Addr.String() + "/16", "dev", "eth0"}), after: routes(h1)},
		{name: "the other host's MTU is smaller", harm: on(h2, []string{"ip", "link", "set", "eth0", "mtu", "1400"}),
			check: way, state: "error", words: []string{"packets of 1500 bytes, as containers", "make the MTU between the hosts equal"},
			mend: on(h2, []string{"ip", "link", "set", "eth0", "mtu", "1500"})},
		{name: "docker_gwbridge's MTU is larger than the NIC's", harm: on(h1, []string{"ip", "link", "set", "docker_gwbridge", "mtu", "9000"}),
			check: "docker_gwbridge", state: "error", words: []string{"9000", "1500", "ip link set docker_gwbridge mtu 1500"}},
		{name: "docker_gwbridge is down", harm: on(h1, []string{"ip", "link", "set", "docker_gwbridge", "down"}),
			check: "docker_gwbridge", state: "error", words: []string{"is down", "ip link set docker_gwbridge up"}},
		{name: "docker_gwbridge has lost its address", harm: on(h1, sh(`ip -4 -o addr show docker_gwbridge | sed 's/.*inet \([^ ]*\) .*/\1/' >/run/gateway; ip addr flush dev docker_gwbridge`)),
			check: "docker_gwbridge", state: "error", words: []string{"has no address", "systemctl restart docker"}, mend: on(h1, sh("ip addr add $(cat /run/gateway) dev docker_gwbridge"))},
		{name: "docker_gwbridge was removed", harm: on(h1, []string{"ip", "link", "del", "docker_gwbridge"}),
			check: "docker_gwbridge", state: "error", words: []string{"its link is gone", "systemctl restart docker"}, mend: both(func(ctx context.Context) error { return h1.RestartDocker(ctx) }, w.patientAgain)},
		{name: "the neighbour entry is wrong", harm: on(h1, sh("ip neigh replace "+h2.Addr.String()+" lladdr 02:00:00:00:00:99 dev eth0 nud permanent")),
			check: way, state: "error", words: []string{"02:00:00:00:00:99", "neighbour entry is wrong", "ip neigh del"}, never: []string{"firewall"}},
		{name: "the gateway is not there", harm: on(h1, sh("ip route add "+h2.Addr.String()+"/32 via 10.99.0.77")),
			check: way, state: "error", words: []string{"by the gateway 10.99.0.77", "nobody"}, never: []string{"firewall"}, mend: on(h1, sh("ip route del "+h2.Addr.String()+"/32"))},
		{name: "a machine outside the cluster has the address", harm: both(
			func(ctx context.Context) error { return h2.AddNIC(ctx, "nic2", 1500) },
			on(h2, sh("ip netns add stranger; ip link set nic2 netns stranger; ip -n stranger addr add "+h1.Addr.String()+"/16 dev nic2; ip -n stranger link set nic2 up"))),
			check: "tunnel address", state: "error", words: []string{"another machine on the segment of eth0", "has this host's tunnel address"}, never: []string{"firewall"},
			mend: on(h2, sh("ip -n stranger link del nic2; ip netns del stranger"))},
		{name: "a link's subnet overlaps a network's", harm: on(h1, sh(`ip link add lan2 type bridge; ip link set lan2 up
				ip addr add $(docker -H unix:///run/docker.sock network inspect -f '{{range .IPAM.Config}}{{.Subnet}}{{end}}' socketplane | sed 's,\.0/.*,.200/28,') dev lan2`)),
			check: "subnets", state: "warning", words: []string{"lan2", "overlaps", "socketplane"}, mend: on(h1, []string{"ip", "link", "del", "lan2"})},
	}
}

func (w *ward) ofFirewalls() []sickness {
	h1, h2 := w.Hosts[0], w.Hosts[1]
	way := "way to " + h2.Name
	return []sickness{
		{name: "the other host's firewall drops the port", harm: filter(h2, "input", "udp dport 4789 drop"),
			check: way, state: "error", words: []string{"UDP port 4789", "no answer", "firewall"}, mend: unfiltered(h2)},
		{name: "this host's firewall drops what goes out", harm: filter(h1, "output", "udp dport 4789 drop"),
			check: way, state: "error", words: []string{"this host's own firewall", "4789", "nft list ruleset"}, mend: unfiltered(h1)},
		{name: "the other host's firewall rejects the port", harm: filter(h2, "input", "udp dport 4789 reject"),
			check: way, state: "error", words: []string{"UDP port 4789", "is refused"}, mend: unfiltered(h2)},
		{name: "a firewall drops everything but TCP", harm: filter(h2, "input", "meta l4proto != tcp drop"),
			check: way, state: "error", words: []string{"no answer", "ICMP", "though its agent is up"}, mend: unfiltered(h2)},
	}
}

func (w *ward) ofKernel() []sickness {
	h1, h3 := w.Hosts[0], w.Hosts[2]
	return []sickness{
		{name: "IP forwarding is off", harm: on(h1, sh("echo 0 >/proc/sys/net/ipv4/ip_forward")),
			check: "IP forwarding", state: "error", words: []string{"net.ipv4.ip_forward is 0", "sysctl -w net.ipv4.ip_forward=1"}},
		{name: "forwarding is off for one link", harm: on(h1, sh("echo 0 >/proc/sys/net/ipv4/conf/docker_gwbridge/forwarding")),
			check: "IP forwarding", state: "error", words: []string{"docker_gwbridge is off", "sysctl -w"}},
		{name: "the reverse path filter drops a host", harm: on(h1, sh(fmt.Sprintf(`ip link add nic2 type veth peer name nic2b; ip link set nic2 up; ip link set nic2b up
				echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter; ip route add %s/32 dev nic2`, h3.Addr))),
			check: "reverse path filter", state: "error", words: []string{"strict", "eth0", "nic2", h3.Name, "sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
			after: on(h1, sh("ip link del nic2; echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/eth0/rp_filter"))},
		{name: "the agent may open few files", harm: on(h1, sh(`pid=$(pidof socketplane); prlimit --pid $pid --nofile=$(($(ls /proc/$pid/fd | wc -l) + 30)):`)),
			check: "limits", state: "error", words: []string{"files open", "prlimit --nofile"}},
	}
}

func (w *ward) ofDaemons() []sickness {
	h := w.Hosts[0]
	return []sickness{
		{name: "Docker is stopped by a signal", harm: signal(h, lab.Dockerd, syscall.SIGSTOP),
			check: "Docker", state: "error", words: []string{"stopped by a signal", "kill -CONT"}},
		{name: "Docker is gone", harm: func(context.Context) error { h.KillDocker(); return nil },
			check: "Docker", state: "error", words: []string{"does not run", "systemctl start docker"},
			mend: both(func(ctx context.Context) error { return h.StartDocker(ctx) }, w.patientAgain)},
		{name: "Docker's socket is gone", harm: on(h, []string{"mv", "/run/docker.sock", "/run/docker.away"}),
			check: "Docker", state: "error", words: []string{"no socket", "dockerd runs", "--docker-host"}, mend: on(h, []string{"mv", "/run/docker.away", "/run/docker.sock"})},
		{name: "containerd is stopped by a signal", harm: on(h, sh("kill -STOP $(pidof containerd)")),
			check: "Docker", state: "error", words: []string{"containerd (process", "stopped by a signal", "kill -CONT"}},
		{name: "Consul is gone", harm: func(context.Context) error { w.Consul.Stop(); return nil },
			check: "store", state: "error", words: []string{"refuses connections", "start Consul"}, mend: w.Consul.Start},
		{name: "Consul is stopped by a signal", harm: func(context.Context) error { w.Consul.Pause(); return nil },
			check: "store", state: "error", words: []string{"takes connections and answers nothing"}, mend: func(context.Context) error { w.Consul.Resume(); return nil }},
	}
}

// patientAgain starts the first host's container, which ended with its engine.
func (w *ward) patientAgain(ctx context.Context) error {
	_, err := w.Hosts[0].Docker(ctx, "start", "patient")
	return err
}

func (w *ward) ofFiles() []sickness {
	h := w.Hosts[0]
	const dir = "/var/lib/socketplane"
	return []sickness{
		{name: "the state directory is read-only", harm: on(h, sh("mount --bind "+dir+" "+dir+"; mount -o remount,bind,ro "+dir)),
			check: "state directory", state: "error", words: []string{"read-only", "mount -o remount,rw " + dir}, after: on(h, []string{"umount", dir})},
		{name: "the state directory is full", harm: on(h, sh("mount -t tmpfs -o size=256k tmpfs "+dir+"; dd if=/dev/zero of="+dir+"/fill bs=1k count=1000 2>/dev/null || true")),
			check: "state directory", state: "error", words: []string{"full", "df -h"}, mend: on(h, []string{"umount", dir})},
		{name: "the state directory is nearly full", harm: onOther(h, "cp -a "+dir+" /run/state; mount -t tmpfs -o size=4m tmpfs "+dir+"; cp -a /run/state/. "+dir),
			check: "state directory", state: "warning", words: []string{"KiB are free", "df -h"}, mend: onOther(h, "umount "+dir+"; rm -rf /run/state")},
		{name: "the state was removed under the agent", harm: on(h, []string{"mv", dir + "/local.db", dir + "/away"}),
			check: "state directory", state: "error", words: []string{"local.db is gone", "cp /proc/", "/fd/"}, mend: on(h, []string{"mv", dir + "/away", dir + "/local.db"})},
		{name: "the plugin's socket is gone", harm: on(h, []string{"rm", lab.PluginSocket}),
			check: "sockets", state: "error", words: []string{lab.PluginSocket, "is gone", "systemctl restart socketplane"}, mend: restart(h)},
		{name: "the plugin's socket is open to all", harm: on(h, []string{"chmod", "666", lab.PluginSocket}),
			check: "sockets", state: "error", words: []string{"mode 666", "chmod 600"}},
		{name: "the admin socket is open to all", harm: on(h, []string{"chmod", "777", lab.AdminSocket}),
			check: "sockets", state: "error", words: []string{"mode 777", "chmod 660"}},
	}
}

// onOther changes the state directory while no agent runs.
func onOther(h *lab.Host, script string) func(context.Context) error {
	return both(func(context.Context) error { h.KillAgent(); return nil }, on(h, sh(script)), func(ctx context.Context) error { return h.StartAgent(ctx) })
}

func (w *ward) ofCluster() []sickness {
	h1, h2, h3 := w.Hosts[0], w.Hosts[1], w.Hosts[2]
	both1 := both(on(h3, []string{"ip", "addr", "add", h1.Addr.String() + "/32", "dev", "lo"}), restart(h3, "--advertise", h1.Addr.String()))
	apart := both(restart(h3), on(h3, []string{"ip", "addr", "del", h1.Addr.String() + "/32", "dev", "lo"}))
	now := time.Now().UTC().Add(10 * time.Minute)
	ms := uint64(now.Sub(now.Truncate(24 * time.Hour)).Milliseconds())
	return []sickness{
		{name: "two hosts have one tunnel address", harm: both1, check: "tunnel address", state: "error", words: []string{h3.Name, h1.Addr.String(), "--advertise"},
			never: []string{"firewall"}, mend: apart},
		{name: "two other hosts have one tunnel address", harm: both1, at: h2, check: "way to " + h3.Name, state: "error", words: []string{h1.Addr.String(), h1.Name, "--advertise"},
			never: []string{"firewall"}, mend: apart},
		{name: "another host answers at a host's address", harm: both(on(h1, []string{"ip", "addr", "add", h3.Addr.String() + "/32", "dev", "eth0"}), on(h3, []string{"ip", "link", "set", "eth0", "down"})),
			at: h2, check: "way to " + h3.Name, state: "error", words: []string{"another host answers at " + h3.Addr.String(), "--advertise"}, never: []string{"firewall"},
			mend: both(on(h1, []string{"ip", "addr", "del", h3.Addr.String() + "/32", "dev", "eth0"}), on(h3, []string{"ip", "link", "set", "eth0", "up"})), after: routes(h3)},
		{name: "hosts use different UDP ports", harm: restart(h3, "--vxlan-port", "4799"), check: "way to " + h3.Name, state: "error",
			words: []string{"4799", "4789", "--vxlan-port"}, never: []string{"firewall"}, mend: restart(h3)},
		{name: "this host's former record is there", harm: w.former(h1), check: "tunnel address", state: "warning", words: []string{"former record", "socketplane host rm former1"},
			never: []string{"firewall", "packets reach only one"}, mend: func(ctx context.Context) error {
				_, err := h1.SocketPlane(ctx, "host", "rm", "former1")
				return err
			}},
		{name: "a host's agent has another version", harm: w.version(h3, `"version":"devel"`, `"version":"v0.0.1"`),
			check: "agent versions", state: "warning", words: []string{h3.Name + " has v0.0.1", "same version"}, mend: w.version(h3, `"version":"v0.0.1"`, `"version":"devel"`)},
		{name: "two hosts have one name", harm: restart(h3, "--name", h2.Name), check: "host names", state: "warning", words: []string{"2 hosts are named h2", "--name"}, mend: restart(h3)},
		{name: "the clock is wrong", harm: on(h2, []string{"nft", fmt.Sprintf("add table inet broken; add chain inet broken c { type filter hook output priority 0; }; "+
			"add rule inet broken c icmp type timestamp-reply @th,96,64 set %d", ms<<32|ms)}),
			check: "clocks", state: "error", words: []string{"h2 is ", "ahead of this host's", "timedatectl"}, mend: unfiltered(h2)},
		{name: "a network's name is taken by another", harm: both(
			func(ctx context.Context) error { _, err := h2.Docker(ctx, "network", "create", "odd"); return err },
			func(ctx context.Context) error {
				_, err := h1.SocketPlane(ctx, "network", "create", "--wait", "0", "odd")
				return err
			}),
			at: h2, check: "networks", state: "error", words: []string{"odd", "docker network rm"},
			mend: both(func(ctx context.Context) error { _, err := h2.Docker(ctx, "network", "rm", "odd"); return err },
				func(ctx context.Context) error {
					_, err := h1.SocketPlane(ctx, "network", "rm", "odd")
					return err
				})},
		{name: "a host is gone", harm: both(func(context.Context) error { h3.KillAgent(); return nil }, func(ctx context.Context) error { return h3.SetUplink(ctx, false) }, w.counted(1)),
			check: "way to " + h3.Name, state: "warning", words: []string{h3.Addr.String(), "see that " + h3.Name + " runs", "socketplane host rm "}, never: []string{"firewall"},
			mend: both(func(ctx context.Context) error { return h3.SetUplink(ctx, true) }, func(ctx context.Context) error { return h3.StartAgent(ctx) })},
	}
}

// former leaves a record as a host has it that was cleaned and started again: of the same machine, with another id.
func (w *ward) former(h *lab.Host) func(context.Context) error {
	return func(ctx context.Context) error {
		records, err := w.Consul.Keys(ctx, "socketplane/v1/hosts/")
		if err != nil {
			return err
		}
		for key, value := range records {
			id := key[strings.LastIndexByte(key, '/')+1:]
			if id == "alive" || !strings.Contains(value, fmt.Sprintf("%q", h.Addr.String())) {
				continue
			}
			return w.put(ctx, strings.TrimSuffix(key, id)+"former1", strings.Replace(value, id, "former1", 1))
		}
		return fmt.Errorf("%s has no record", h.Name)
	}
}

// counted waits until this many agents no longer hold their session: Consul ends one up to twice its TTL (15 s) after the last renewal.
func (w *ward) counted(down int) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return testenv.Poll(ctx, 100*time.Millisecond, func() bool {
			records, err := w.Consul.Keys(ctx, store.AlivePrefix)
			alive := 0
			for key, host := range records {
				if key == store.AliveKey(host) { // not the key that only keeps the prefix from being empty
					alive++
				}
			}
			return err == nil && alive == len(w.Hosts)-down
		})
	}
}

// version changes a host's record in the store: its agent has no reason to write it again.
func (w *ward) version(h *lab.Host, before, after string) func(context.Context) error {
	return func(ctx context.Context) error {
		records, err := w.Consul.Keys(ctx, "socketplane/v1/hosts/")
		if err != nil {
			return err
		}
		for key, record := range records {
			if !strings.Contains(record, fmt.Sprintf(`"name":%q`, h.Name)) {
				continue
			}
			changed := strings.Replace(record, before, after, 1)
			if changed == record {
				return fmt.Errorf("%s has no %s", record, before)
			}
			return w.put(ctx, key, changed)
		}
		return fmt.Errorf("%s has no record", h.Name)
	}
}

// put writes a record of the store.
func (w *ward) put(ctx context.Context, key, record string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://consul/v1/kv/"+key, strings.NewReader(record))
	if err != nil {
		return err
	}
	resp, err := w.Consul.Client().Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

func (w *ward) ofAgent() []sickness {
	h := w.Hosts[0]
	const unreachable = 3
	local := func(ctx context.Context) error { h.KillAgent(); return nil }
	return []sickness{
		{name: "the agent does not run", harm: local, check: "agent", state: "error", code: unreachable,
			words: []string{"the agent does not run", "systemctl start socketplane"}, mend: func(ctx context.Context) error { return h.StartAgent(ctx) }},
		{name: "the agent's socket is gone", harm: on(h, []string{"mv", lab.AdminSocket, lab.AdminSocket + ".away"}), check: "agent", state: "error", code: unreachable,
			words: []string{"the agent runs (process", "no socket", "systemctl restart socketplane.socket"}, mend: on(h, []string{"mv", lab.AdminSocket + ".away", lab.AdminSocket})},
		{name: "the address is not Consul's", harm: restart(h, "--consul-addr", "10.99.0.2:8300"), check: "store", state: "error", words: []string{"not as Consul's HTTP API", "8500"},
			never: []string{"start docker", "firewall"}, mend: restart(h)},
		{name: "the agent is stopped by a signal", harm: signal(h, lab.Agent, syscall.SIGSTOP), check: "agent", state: "error", code: unreachable,
			words: []string{"stopped by a signal", "kill -CONT"}},
		{name: "neither agent nor Open vSwitch run", harm: both(local, func(context.Context) error { h.KillVSwitch(); return nil }),
			check: "Open vSwitch", state: "error", code: unreachable, words: []string{"ovs-vswitchd does not run"},
			mend: both(h.StartVSwitch, func(ctx context.Context) error { return h.StartAgent(ctx) })},
		{name: "without the agent most can't be looked at", harm: local, check: "store", state: "unknown", code: unreachable,
			words: []string{"could not look", "an agent that runs", "see the agent"}, mend: func(ctx context.Context) error { return h.StartAgent(ctx) }},
		{name: "neither agent nor Docker run", harm: both(local, signal(h, lab.Dockerd, syscall.SIGSTOP)), check: "Docker", state: "error", code: unreachable,
			words: []string{"stopped by a signal"}, mend: both(signal(h, lab.Dockerd, syscall.SIGCONT), func(ctx context.Context) error { return h.StartAgent(ctx) })},
	}
}
