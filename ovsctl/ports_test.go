package ovsctl_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/ovsctl"
)

func TestSyncPorts(t *testing.T) {
	sw, s := start(t)
	sw.AddBridge("br-theirs")
	sw.Vsctl("add-port", "br-theirs", "their-b", "--", "set", "Interface", "their-b", "type=internal", "--",
		"set", "Port", "their-b", "external_ids:socketplane=not-on-our-bridge")
	sw.Vsctl("add-port", bridge, "their-a", "--", "set", "Interface", "their-a", "type=internal")
	eventually(t, "their bridge is seen", func() error {
		_, err := s.SyncPorts(t.Context(), []ovsctl.Port{tap("their-b", 0)})
		if !errors.Is(err, ovsctl.ErrForeign) {
			return fmt.Errorf("wanting their port: %w", err)
		}
		return nil
	})
	theirs := func() string {
		return sw.Vsctl("--columns=name,type,ofport,ofport_request,options,external_ids", "list", "Interface", "their-a", "their-b") +
			sw.Vsctl("list-ports", "br-theirs")
	}
	before := theirs()

	sync(t, s, ovsctl.Changes{Added: 3}, tap("p1", 11), tap("p2", 12),
		ovsctl.Port{Name: "vx", OFPort: 100, Type: "vxlan", Options: map[string]string{"remote_ip": "flow", "key": "flow"}})
	if p, err := s.WaitPort(t.Context(), "vx"); err != nil || p.OFPortActual != 100 {
		t.Errorf("WaitPort = %+v, %v", p, err)
	}
	want := `p1 type=internal asked=11 got=11 options=map[] ids=map[socketplane:endpoint p1] error=""
p2 type=internal asked=12 got=12 options=map[] ids=map[socketplane:endpoint p2] error=""
vx type=vxlan asked=100 got=100 options=map[key:flow remote_ip:flow] ids=map[socketplane:port] error=""`
	if got := render(s); got != want {
		t.Errorf("ports are\n%s\nwant\n%s", got, want)
	}
	if got := sw.Ofctl("show", bridge); !strings.Contains(got, " 11(p1)") || !strings.Contains(got, " 100(vx)") {
		t.Errorf("the switch shows other ports: %s", got)
	}

	// p1 stays, p2 is mended in all ways, vx goes, p3 comes.
	p2 := tap("p2", 22)
	p2.ExternalIDs = map[string]string{"socketplane": "new", "socketplane-network": "n"}
	changed := []ovsctl.Port{tap("p1", 11), p2, tap("p3", 13)}
	sync(t, s, ovsctl.Changes{Added: 1, Mended: 1, Removed: 1}, changed...)
	sync(t, s, ovsctl.Changes{}, changed...)
	if _, err := s.WaitPort(t.Context(), "p2"); err != nil {
		t.Error(err)
	}
	want = `p1 type=internal asked=11 got=11 options=map[] ids=map[socketplane:endpoint p1] error=""
p2 type=internal asked=22 got=22 options=map[] ids=map[socketplane:new socketplane-network:n] error=""
p3 type=internal asked=13 got=13 options=map[] ids=map[socketplane:endpoint p3] error=""`
	if got := render(s); got != want {
		t.Errorf("ports are\n%s\nwant\n%s", got, want)
	}

	sync(t, s, ovsctl.Changes{Removed: 3})
	if got := theirs(); got != before {
		t.Errorf("others' ports are\n%s\nwere\n%s", got, before)
	}
}

func TestSyncPortsMendsDamage(t *testing.T) {
	vx := ovsctl.Port{Name: "vx", OFPort: 7, Type: "vxlan", Options: map[string]string{"remote_ip": "flow", "key": "flow"}}
	for name, damage := range map[string][]string{
		"request":         {"set", "Interface", "vx", "ofport_request=8"},
		"no-request":      {"clear", "Interface", "vx", "ofport_request"},
		"options":         {"set", "Interface", "vx", "options:key=5"},
		"extra-option":    {"set", "Interface", "vx", "options:dst_port=4790"},
		"type":            {"set", "Interface", "vx", "type=gre"},
		"interface-mark":  {"clear", "Interface", "vx", "external_ids"},
		"port-identity":   {"set", "Port", "vx", "external_ids:socketplane=other"},
		"deleted":         {"del-port", bridge, "vx"},
		"more-interfaces": {"--", "--id=@i", "create", "Interface", "name=vx2", "type=internal", "--", "add", "Port", "vx", "interfaces", "@i"},
	} {
		t.Run(name, func(t *testing.T) {
			sw, s := start(t)
			sync(t, s, ovsctl.Changes{Added: 1}, vx)
			if _, err := s.WaitPort(t.Context(), "vx"); err != nil {
				t.Fatal(err)
			}
			want := render(s)
			sw.Vsctl(damage...)
			eventually(t, "damage is mended", func() error {
				changes, err := s.SyncPorts(t.Context(), []ovsctl.Port{vx})
				if err == nil && changes.Added+changes.Mended != 1 {
					err = fmt.Errorf("SyncPorts changed %+v", changes)
				}
				return err
			})
			eventually(t, "the port is as before", func() error {
				if _, err := s.WaitPort(t.Context(), "vx"); err != nil {
					return err
				}
				if got := render(s); got != want {
					return fmt.Errorf("port is %s\nwant %s", got, want)
				}
				return nil
			})
		})
	}
}

func TestEnsureAndRemovePort(t *testing.T) {
	sw, s := start(t)
	sw.Vsctl("add-port", bridge, "theirs", "--", "set", "Interface", "theirs", "type=internal")
	for _, p := range []ovsctl.Port{tap("p1", 1), tap("p2", 2), tap("p1", 3), tap("p1", 3)} {
		if err := s.EnsurePort(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if p, err := s.WaitPort(t.Context(), "p1"); err != nil || p.OFPortActual != 3 {
		t.Errorf("WaitPort = %+v, %v", p, err)
	}
	if err := s.RemovePorts(t.Context(), "p1", "theirs", bridge, "nowhere"); err != nil {
		t.Fatal(err)
	}
	if got := sw.Vsctl("list-ports", bridge); got != "p2\ntheirs" {
		t.Errorf("ports left: %s", got)
	}
}

func TestWaitPortTellsWhy(t *testing.T) {
	sw, s := start(t)
	sw.NSExec("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
	sync(t, s, ovsctl.Changes{Added: 4}, tap("p1", 5), tap("p2", 5), ovsctl.Port{Name: "missing"}, ovsctl.Port{Name: "veth0", OFPort: 9})
	if p, err := s.WaitPort(t.Context(), "missing"); !errors.Is(err, ovsctl.ErrPort) ||
		!strings.Contains(p.Error, "No such device") || p.OFPortActual != -1 {
		t.Errorf("missing device: %+v, %v", p, err)
	}
	if p, err := s.WaitPort(t.Context(), "veth0"); err != nil || p.OFPortActual != 9 {
		t.Errorf("present device: %+v, %v", p, err)
	}
	_, err1 := s.WaitPort(t.Context(), "p1")
	_, err2 := s.WaitPort(t.Context(), "p2")
	if err := errors.Join(err1, err2); (err1 == nil) == (err2 == nil) || !errors.Is(err, ovsctl.ErrPort) {
		t.Errorf("two ports with one number: %v and %v, want one error", err1, err2)
	}
	if _, err := s.WaitPort(t.Context(), "unknown"); err == nil {
		t.Error("no error for a port that nobody added")
	}
	// A device that comes later is taken up, and Changed tells.
	drain(s)
	sw.NSExec("ip", "link", "add", "missing", "type", "veth", "peer", "name", "veth3")
	eventually(t, "device is taken up", func() error {
		select {
		case <-s.Changed():
		case <-time.After(time.Millisecond):
		}
		_, err := s.WaitPort(t.Context(), "missing")
		return err
	})
}

func TestSyncPortsRefuses(t *testing.T) {
	_, s := start(t)
	for name, want := range map[string][]ovsctl.Port{
		"no-name":      {{}},
		"bridge-name":  {tap(bridge, 1)},
		"twice":        {tap("p1", 1), tap("p1", 2)},
		"reserved":     {tap("p1", 0xff00)},
		"long-options": {{Name: "p1", Type: "internal", OFPort: 70000}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.SyncPorts(t.Context(), want); err == nil {
				t.Error("no error")
			}
		})
	}
	if got := render(s); got != "" {
		t.Errorf("ports: %s", got)
	}
}

func TestThousandPorts(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	sw, s := start(t)
	var want []ovsctl.Port
	for i := range 1000 {
		// Tunnels need no device: this measures us and OVSDB rather than the kernel.
		want = append(want, ovsctl.Port{Name: fmt.Sprintf("p%d", i), OFPort: uint32(i + 1), Type: "vxlan",
			Options: map[string]string{"remote_ip": fmt.Sprintf("192.0.2.%d", i%250+1), "key": fmt.Sprint(i)}})
	}
	begin := time.Now()
	// A busy machine may need longer for a thousand at once than one change may take: what was asked for comes all the same.
	eventually(t, "they are there", func() error {
		_, err := s.SyncPorts(t.Context(), want)
		if err == nil && len(s.Ports()) != len(want) {
			err = fmt.Errorf("there are %d", len(s.Ports()))
		}
		return err
	})
	t.Logf("1000 ports added in %v", time.Since(begin))
	begin = time.Now()
	eventually(t, "the switch has them", func() error { _, err := s.WaitPort(t.Context(), "p999"); return err })
	t.Logf("ovs-vswitchd took them up %v later", time.Since(begin))
	begin = time.Now()
	eventually(t, "nothing is to be done", func() error {
		changes, err := s.SyncPorts(t.Context(), want)
		if err == nil && changes != (ovsctl.Changes{}) {
			err = fmt.Errorf("changed %+v", changes)
		}
		return err
	})
	t.Logf("compared, nothing to do: %v", time.Since(begin))
	begin = time.Now()
	eventually(t, "one more", func() error { return s.EnsurePort(t.Context(), tap("one-more", 2000)) })
	eventually(t, "the switch has it", func() error { _, err := s.WaitPort(t.Context(), "one-more"); return err })
	t.Logf("one more port, ready: %v", time.Since(begin))
	begin = time.Now()
	eventually(t, "they are gone", func() error { _, err := s.SyncPorts(t.Context(), nil); return err })
	t.Logf("all removed in %v", time.Since(begin))
	if got := sw.Vsctl("list-ports", bridge); got != "" {
		t.Errorf("ports left: %.200s", got)
	}
}
