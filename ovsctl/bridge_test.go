package ovsctl_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/ovsctl"
)

const wantBridge = `controller          : []
datapath_type       : netdev
external_ids        : {socketplane=owner}
fail_mode           : secure
mcast_snooping_enable: false
other_config        : {disable-in-band="true"}
protocols           : [OpenFlow10, OpenFlow11, OpenFlow12, OpenFlow13, OpenFlow14]
rstp_enable         : false
stp_enable          : false`

func bridgeColumns(sw *ovs.Switch) string {
	return sw.Vsctl("--columns=controller,datapath_type,external_ids,fail_mode,mcast_snooping_enable,other_config,protocols,rstp_enable,stp_enable",
		"list", "Bridge", bridge)
}

func TestEnsureBridgeMakes(t *testing.T) {
	sw, s := start(t)
	if got := bridgeColumns(sw); got != wantBridge {
		t.Errorf("bridge is\n%s\nwant\n%s", got, wantBridge)
	}
	if _, err := os.Stat(s.MgmtPath()); err != nil || s.MgmtPath() != sw.Mgmt(bridge) {
		t.Errorf("management socket %s: %v", s.MgmtPath(), err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("Ready: %v", err)
	}
	info := s.Info()
	if info.Datapath != "netdev" || info.KernelDatapath || info.TSO || len(info.DatapathTypes) == 0 {
		t.Errorf("Info = %+v", info)
	}
	if ports := s.Ports(); len(ports) != 0 {
		t.Errorf("the bridge's own port is among ours: %v", ports)
	}
	// Nobody has written the version into the database.
	if got := s.Version(t.Context()); info.OVSVersion != "" || got == "" || !strings.Contains(sw.Appctl("version"), " "+got) {
		t.Errorf("the version is %q, the database has %q, the switch says %q", got, info.OVSVersion, sw.Appctl("version"))
	}
	// Nothing to do is no transaction.
	cfg := sw.Vsctl("get", "Open_vSwitch", ".", "next_cfg")
	ensureBridge(t, s)
	if got := sw.Vsctl("get", "Open_vSwitch", ".", "next_cfg"); got != cfg {
		t.Errorf("next_cfg went from %s to %s for nothing", cfg, got)
	}
}

func TestEnsureBridgeMends(t *testing.T) {
	for name, damage := range map[string][]string{
		"fail mode":    {"clear", "Bridge", bridge, "fail_mode"},
		"protocols":    {"set", "Bridge", bridge, "protocols=OpenFlow13"},
		"stp":          {"set", "Bridge", bridge, "stp_enable=true"},
		"snooping":     {"set", "Bridge", bridge, "mcast_snooping_enable=true"},
		"controller":   {"set-controller", bridge, "tcp:127.0.0.1:1"},
		"other_config": {"set", "Bridge", bridge, "other_config:disable-in-band=false"},
		"mark":         {"set", "Bridge", bridge, "external_ids:socketplane=other", "external_ids:socketplane-old=x"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			sw, s := start(t)
			sw.Vsctl(damage...)
			eventually(t, "mend", func() error { // the damage is on its way to us
				ensureBridge(t, s)
				if got := bridgeColumns(sw); got != wantBridge {
					return errors.New("bridge is\n" + got)
				}
				return nil
			})
		})
	}
}

func TestEnsureBridgeKeepsOtherPeoplesKeys(t *testing.T) {
	sw, s := start(t)
	sw.Vsctl("set", "Bridge", bridge, "external_ids:theirs=1", "other_config:theirs=2", "stp_enable=true")
	eventually(t, "mend", func() error {
		ensureBridge(t, s)
		if sw.Vsctl("get", "Bridge", bridge, "stp_enable") != "false" {
			return errors.New("not mended")
		}
		return nil
	})
	if got := sw.Vsctl("get", "Bridge", bridge, "external_ids:theirs", "other_config:theirs"); got != "\"1\"\n\"2\"" {
		t.Errorf("others' keys: %s", got)
	}
}

func TestForeignBridgeIsLeftAlone(t *testing.T) {
	sw := ovs.Start(t)
	sw.AddBridge(bridge)
	sw.Vsctl("add-port", bridge, "theirs", "--", "set", "Interface", "theirs", "type=internal")
	before := sw.Vsctl("list", "Bridge", bridge)
	s := connect(t, sw)
	if err := s.EnsureBridge(t.Context(), spec()); !errors.Is(err, ovsctl.ErrForeign) {
		t.Errorf("EnsureBridge: %v", err)
	}
	if err := s.RemoveBridge(t.Context()); !errors.Is(err, ovsctl.ErrForeign) {
		t.Errorf("RemoveBridge: %v", err)
	}
	if _, err := s.SyncPorts(t.Context(), []ovsctl.Port{tap("p1", 1)}); !errors.Is(err, ovsctl.ErrForeign) {
		t.Errorf("SyncPorts: %v", err)
	}
	if got := sw.Vsctl("list", "Bridge", bridge); got != before {
		t.Errorf("it was changed to\n%s\nfrom\n%s", got, before)
	}
}

func TestHasBridge(t *testing.T) {
	sw, s := start(t)
	sw.AddBridge("br-nic")
	eventually(t, "their bridge is seen", func() error {
		if !s.HasBridge("br-nic", ovsctl.DatapathNetdev) {
			return errors.New("not seen")
		}
		return nil
	})
	if s.HasBridge("br-nic", ovsctl.DatapathSystem) || s.HasBridge("eth0", ovsctl.DatapathNetdev) {
		t.Error("a bridge that isn't there")
	}
}

func TestRemoveBridge(t *testing.T) {
	sw, s := start(t)
	sw.AddBridge("theirs")
	sync(t, s, ovsctl.Changes{Added: 1}, tap("p1", 1))
	for range 2 { // the second time there is nothing to remove
		if err := s.RemoveBridge(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := sw.Vsctl("list-br"); got != "theirs" {
		t.Errorf("bridges left: %s", got)
	}
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(s.MgmtPath()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ovs-vswitchd still serves the bridge: %v", err)
	}
	if got := sw.Vsctl("--columns=name", "list", "Interface"); strings.Contains(got, "p1") {
		t.Errorf("interfaces left: %s", got)
	}
	if _, err := s.SyncPorts(t.Context(), []ovsctl.Port{tap("p1", 1)}); !errors.Is(err, ovsctl.ErrNoBridge) {
		t.Errorf("SyncPorts without a bridge: %v", err)
	}
}

// The build machines have no kernel datapath, which is just the failure that is wanted here.
func TestBridgeThatCannotBeMade(t *testing.T) {
	sw := ovs.Start(t)
	s := connect(t, sw)
	bad := spec()
	bad.Datapath = ovsctl.DatapathSystem
	if err := s.EnsureBridge(t.Context(), bad); err == nil {
		t.Skip("this kernel has the datapath")
	} else if !errors.Is(err, ovsctl.ErrBridge) {
		t.Fatalf("EnsureBridge: %v", err)
	}
	if err := s.Ready(); err != nil {
		t.Errorf("Ready: %v: ovs-vswitchd runs, and another datapath is the cure", err)
	}
	ensureBridge(t, s)
	if got := s.Info().Datapath; got != ovsctl.DatapathNetdev {
		t.Errorf("datapath = %s", got)
	}
}

func TestTwoAgentsMakeOneBridge(t *testing.T) {
	sw := ovs.Start(t)
	a, b := connect(t, sw), connect(t, sw)
	errs := make(chan error, 2)
	for _, s := range []*ovsctl.Switch{a, b} {
		go func() {
			err := s.EnsureBridge(context.WithoutCancel(t.Context()), spec())
			for i := uint32(1); err == nil && i < 20; i++ {
				err = s.EnsurePort(context.WithoutCancel(t.Context()), tap("p"+string('a'+rune(i)), i))
			}
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := len(a.Ports()); got != 19 {
		t.Errorf("%d ports, want 19:\n%s", got, render(a))
	}
}
