package bench

import (
	"context"
	"fmt"
	"strings"

	"github.com/socketplane/socketplane/test/lab"
)

// plainScript plugs a container without a network into an Open vSwitch bridge of its own, and that to the other
// host: as a user would do by hand, with VXLAN in user space. It has a UDP port of its own beside SocketPlane's.
// The checksums are the container's to compute: this switch takes packets as they are.
const plainScript = `
pid=$1; addr=$2; remote=$3
ip link add plainh type veth peer name plainc
ip link set plainc netns "$pid"
nsenter --net="/proc/$pid/ns/net" sh -ec "
	ip addr add $addr/24 dev plainc; ip link set plainc mtu 1450 up; ethtool -K plainc tx off >/dev/null"
ip link set plainh mtu 1450 up
ethtool -K plainh tx off >/dev/null
ovs-vsctl --timeout=30 add-br br-plain -- set Bridge br-plain datapath_type=netdev -- add-port br-plain plainh -- \
	add-port br-plain plainx -- set Interface plainx type=vxlan options:remote_ip="$remote" options:key=77 options:dst_port=4790
`

// addPlain adds what SocketPlane has to be faster than.
func (w *world) addPlain(ctx context.Context) error {
	hosts := w.ovs.Hosts
	ends := []struct {
		h       *lab.Host
		name    string
		addr    string
		command []string
	}{
		{hosts[0], "plain-client", "10.60.0.1", nil},
		{hosts[1], "plain-server", "10.60.0.2", []string{"sh", "-c", serveScript}},
	}
	for i, e := range ends {
		if err := runIn(ctx, e.h, "none", e.name, e.command...); err != nil {
			return err
		}
		pid, err := e.h.Docker(ctx, "inspect", "-f", "{{.State.Pid}}", e.name)
		if err != nil {
			return err
		}
		_, err = e.h.Exec(ctx, "sh", "-ec", plainScript, "sh", strings.TrimSpace(pid), e.addr, ends[1-i].h.Addr.String())
		if err != nil {
			return fmt.Errorf("%s: %w", namePlain, err)
		}
	}
	p := path{name: namePlain, host: hosts[0], client: "plain-client", server: "10.60.0.2"}
	w.paths = append(w.paths, p)
	return p.await(ctx)
}
