package ovsctl_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
	"github.com/socketplane/socketplane/ovsctl"
)

func TestConnectWithoutDatabase(t *testing.T) {
	sw := ovs.Start(t)
	sw.StopDB()
	s := connect(t, sw)
	if err := notReady(s, sw.DB)(); err != nil {
		t.Error(err)
	}
	if err := s.EnsureBridge(t.Context(), spec()); !errors.Is(err, ovsctl.ErrNotConnected) {
		t.Errorf("EnsureBridge: %v", err)
	}
	if _, err := s.SyncPorts(t.Context(), nil); !errors.Is(err, ovsctl.ErrNotConnected) {
		t.Errorf("SyncPorts: %v", err)
	}
	if info := s.Info(); info.Datapath != "" || s.Ports() != nil {
		t.Errorf("Info = %+v, Ports = %v", info, s.Ports())
	}
	sw.StartDB()
	eventually(t, "it connects by itself", s.Ready)
}

func TestConnectRefuses(t *testing.T) {
	for name, o := range map[string]ovsctl.Options{
		"tcp":       {Endpoint: "tcp:127.0.0.1:6640", Bridge: bridge},
		"relative":  {Endpoint: "unix:db.sock", Bridge: bridge},
		"empty":     {Bridge: bridge},
		"no-bridge": {Endpoint: "unix:/run/x.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := ovsctl.Connect(t.Context(), o); err == nil {
				s.Close()
				t.Error("no error")
			}
		})
	}
}

func TestDatabaseRestarts(t *testing.T) {
	sw, s := start(t)
	sync(t, s, ovsctl.Changes{Added: 2}, tap("p1", 1), tap("p2", 2))
	if _, err := s.WaitPort(t.Context(), "p2"); err != nil {
		t.Fatal(err)
	}
	before := render(s)
	for range 3 {
		quiet(t, s)
		sw.StopDB()
		awaitChanged(t, s)
		eventually(t, "loss is told", notReady(s, "start it (systemctl start openvswitch-switch)"))
		sw.StartDB()
		sw.Vsctl("--no-wait", "set", "Interface", "p1", "ofport_request=77") // before we are back, perhaps
		begin := time.Now()
		eventually(t, "it is back", s.Ready)
		t.Logf("back %v after ovsdb-server", time.Since(begin))
		eventually(t, "the copy is the new state", func() error {
			changes, err := s.SyncPorts(t.Context(), []ovsctl.Port{tap("p1", 1), tap("p2", 2)})
			if err == nil && changes.Mended != 1 {
				err = fmt.Errorf("changed %+v", changes)
			}
			return err
		})
		if _, err := s.WaitPort(t.Context(), "p1"); err != nil {
			t.Fatal(err)
		}
		if got := render(s); got != before {
			t.Errorf("ports are\n%s\nwant\n%s", got, before)
		}
	}
}

func TestEmptiedDatabaseIsRebuilt(t *testing.T) {
	want := []ovsctl.Port{tap("p1", 1), tap("p2", 2)}
	for name, empty := range map[string]func(*testing.T, *ovs.Switch){
		"new-file": emptyDB,
		"bridge-deleted": func(_ *testing.T, sw *ovs.Switch) {
			sw.Vsctl("del-br", bridge)
		},
		"reset": func(_ *testing.T, sw *ovs.Switch) {
			sw.Vsctl("--no-wait", "--", "clear", "Open_vSwitch", ".", "bridges", "--", "clear", "Open_vSwitch", ".", "external_ids")
		},
	} {
		t.Run(name, func(t *testing.T) {
			sw, s := start(t)
			sync(t, s, ovsctl.Changes{Added: 2}, want...)
			if _, err := s.WaitPort(t.Context(), "p2"); err != nil {
				t.Fatal(err)
			}
			before := render(s)
			quiet(t, s)
			empty(t, sw)
			awaitChanged(t, s)
			eventually(t, "loss is seen", func() error {
				if p := s.Ports(); s.Ready() != nil || len(p) > 0 {
					return fmt.Errorf("Ready = %v, %d ports", s.Ready(), len(p))
				}
				return nil
			})
			if len(s.Info().DatapathTypes) == 0 {
				t.Error("Ready, but it can't be told which datapaths there are")
			}
			ensureBridge(t, s)
			sync(t, s, ovsctl.Changes{Added: 2}, want...)
			for _, p := range want {
				if _, err := s.WaitPort(t.Context(), p.Name); err != nil {
					t.Fatal(err)
				}
			}
			if got := render(s); got != before {
				t.Errorf("ports are\n%s\nwant\n%s", got, before)
			}
			if got := bridgeColumns(sw); got != wantBridge {
				t.Errorf("bridge is\n%s", got)
			}
		})
	}
}

func TestVswitchdRestarts(t *testing.T) {
	sw, s := start(t)
	sync(t, s, ovsctl.Changes{Added: 1}, tap("p1", 1))
	sw.Vsctl("set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true")
	quiet(t, s)
	if s.Info().TSO {
		t.Error("TSO is said to be on, but ovs-vswitchd reads it at its start")
	}
	sw.StopVswitchd()
	awaitChanged(t, s)
	eventually(t, "death is told", notReady(s, "ovs-vswitchd is not running"))
	if err := s.EnsureBridge(t.Context(), spec()); !errors.Is(err, ovsctl.ErrNotConnected) {
		t.Errorf("EnsureBridge: %v", err)
	}
	quiet(t, s)
	sw.StartVswitchd()
	awaitChanged(t, s)
	eventually(t, "life is told", s.Ready)
	if !s.Info().TSO {
		t.Error("TSO is said to be off after a restart with it")
	}
	if _, err := s.WaitPort(t.Context(), "p1"); err != nil {
		t.Error(err)
	}
}

func TestVswitchdExitsAndReturnsUnnoticedByTheDatabase(t *testing.T) {
	sw, s := start(t)
	quiet(t, s)
	sw.Appctl("exit") // it removes its sockets
	eventually(t, "exit is told", notReady(s, "ovs-vswitchd is not running"))
	sw.StopVswitchd()
	sw.StartVswitchd()
	eventually(t, "it is back", s.Ready)
	quiet(t, s)
	sw.StopVswitchd() // too short to be told as a death, perhaps, but it is another process
	sw.StartVswitchd()
	awaitChanged(t, s)
}

func TestWithoutVswitchd(t *testing.T) {
	sw := ovs.Start(t)
	sw.StopVswitchd()
	s := connect(t, sw)
	// Nothing in the database tells yet, the first change does.
	err := s.EnsureBridge(t.Context(), spec())
	if !errors.Is(err, ovsctl.ErrNotConnected) || !strings.Contains(err.Error(), "ovs-vswitchd is not running") {
		t.Fatalf("EnsureBridge: %v", err)
	}
	eventually(t, "Ready", notReady(s, "ovs-vswitchd is not running"))
	sw.StartVswitchd()
	eventually(t, "it is back", s.Ready)
	ensureBridge(t, s)
}

func TestHangingVswitchdIsBoundedByTheContext(t *testing.T) {
	sw, s := start(t)
	sw.PauseVswitchd()
	defer sw.ResumeVswitchd()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	begin := time.Now()
	if err := s.EnsurePort(ctx, tap("p1", 1)); err != nil {
		t.Errorf("EnsurePort waits for ovs-vswitchd: %v", err)
	}
	if _, err := s.WaitPort(ctx, "p1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitPort: %v", err)
	}
	if took := time.Since(begin); took > 40*time.Second {
		t.Errorf("took %v", took)
	}
}
