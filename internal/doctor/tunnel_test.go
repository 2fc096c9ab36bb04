package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
)

func TestTunnelChecks(t *testing.T) {
	broken := errors.New("netlink is broken")
	port := func(tunnel string, others []VXLANUser, err error, swarm func(context.Context) (Swarm, error)) Check {
		return TunnelPort{Port: 4789, Tunnel: func() string { return tunnel }, Others: func(context.Context) ([]VXLANUser, error) { return others, err }, Swarm: swarm}.Check()
	}
	swarm := func(s Swarm, err error) func(context.Context) (Swarm, error) {
		return func(context.Context) (Swarm, error) { return s, err }
	}
	tracking := func(there, cant bool, err error) Check {
		return Tracking(false, func() (bool, bool, error) { return there, cant, err })
	}
	links := func(now []string, err error, last string, at time.Time) Check {
		return OwnLinks(func(context.Context) ([]string, error) { return now, err }, func() (string, time.Time) { return last, at })
	}
	mtu := func(found []string, err error) Check {
		return ContainerMTU(func() int { return 1450 }, func(context.Context) ([]string, error) { return found, err })
	}
	for name, c := range map[string]struct {
		check       Check
		state, says string
	}{
		"port alone":                       {port("kernel", nil, nil, nil), adminapi.CheckOK, "nobody else"},
		"port of a plain device":           {port("kernel", []VXLANUser{{Name: "flannel.1"}}, nil, nil), adminapi.CheckOK, "flannel.1"},
		"port of a flow-based device":      {port("kernel", []VXLANUser{{Name: "cilium_vxlan", Exclusive: true}}, nil, nil), adminapi.CheckBad, "--vxlan-port 4790"},
		"port of a device beside OVS":      {port("ovs", []VXLANUser{{Name: "vxlan100"}}, nil, nil), adminapi.CheckBad, "vxlan100"},
		"port not known":                   {port("kernel", nil, broken, nil), adminapi.CheckUnknown, "netlink is broken"},
		"no swarm":                         {port("ovs", nil, nil, swarm(Swarm{}, nil)), adminapi.CheckOK, "nobody else"},
		"swarm on another port":            {port("ovs", nil, nil, swarm(Swarm{Active: true, Port: 4800}, nil)), adminapi.CheckOK, "nobody else"},
		"swarm beside kernel tunnels":      {port("kernel", nil, nil, swarm(Swarm{Active: true}, nil)), adminapi.CheckOK, "Docker's swarm"},
		"swarm beside OVS":                 {port("ovs", nil, nil, swarm(Swarm{Active: true}, nil)), adminapi.CheckBad, "--data-path-port"},
		"swarm not known":                  {port("ovs", nil, nil, swarm(Swarm{}, broken)), adminapi.CheckUnknown, "netlink is broken"},
		"tracking by will":                 {Tracking(true, nil), adminapi.CheckOK, "--track-tunnels"},
		"not tracked":                      {tracking(true, false, nil), adminapi.CheckOK, "rules are there"},
		"tracked":                          {tracking(false, false, nil), adminapi.CheckWarn, "table is not there"},
		"kernel tracks":                    {tracking(false, true, broken), adminapi.CheckWarn, "nf_tables"},
		"tracking not known":               {tracking(false, false, broken), adminapi.CheckUnknown, "netlink is broken"},
		"quiet links":                      {links(nil, nil, "", time.Time{}), adminapi.CheckOK, "none"},
		"an address on a link":             {links([]string{"address 10.0.0.1/24 on sph1"}, nil, "", time.Time{}), adminapi.CheckWarn, "NetworkManager"},
		"an address that was removed":      {links(nil, nil, "address 10.0.0.1/24 on sph1", time.Now()), adminapi.CheckWarn, "10.0.0.1/24 on sph1"},
		"an address that was removed once": {links(nil, nil, "address 10.0.0.1/24 on sph1", time.Now().Add(-2*time.Hour)), adminapi.CheckOK, "none"},
		"links not known":                  {links(nil, broken, "", time.Time{}), adminapi.CheckUnknown, "netlink is broken"},
		"one MTU":                          {mtu(nil, nil), adminapi.CheckOK, "1450"},
		"containers of other MTU":          {mtu([]string{"container web on h1 has MTU 8950"}, nil), adminapi.CheckWarn, "docker restart"},
		"MTU not known":                    {mtu(nil, broken), adminapi.CheckUnknown, "netlink is broken"},
	} {
		got := Run(t.Context(), []Check{c.check})[0]
		if got.State != c.state || !strings.Contains(got.Text+got.Cure, c.says) {
			t.Errorf("%s: %s: %s (%s), want %s with %q", name, got.State, got.Text, got.Cure, c.state, c.says)
		}
	}
}
