package openflow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const owner = 0xffff << 48

func TestSoftware(t *testing.T) {
	sw, c := startSwitch(t)
	got, err := c.Software(deadline(t))
	want := strings.Fields(strings.Split(sw.Appctl("version"), "\n")[0]) // ovs-vswitchd (Open vSwitch) 3.1.0
	if err != nil || got == "" || got != want[len(want)-1] {
		t.Errorf("the switch is %q, %v; it tells ovs-appctl %q", got, err, want)
	}
}

func TestFeatures(t *testing.T) {
	sw, c := startSwitch(t)
	f, err := c.Features(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Trim(sw.Vsctl("get", "Bridge", bridge, "datapath_id"), `"`); fmt.Sprintf("%016x", f.DatapathID) != want || f.Tables != 254 {
		t.Errorf("features %+v, want datapath %s and 254 tables", f, want)
	}
}

func TestConcurrentUse(t *testing.T) {
	_, c := startSwitch(t)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			cookie := uint64(worker+1) << 32
			flows := manyFlows(500, cookie)
			for i := range flows {
				flows[i].Table = uint8(worker + 1)
			}
			for range 3 {
				if err := c.Apply(deadline(t), Change{Add: flows}); err != nil {
					t.Error(err)
				}
				if got, err := c.Dump(deadline(t), cookie, 0xff<<32); err != nil || len(got) != len(flows) {
					t.Errorf("%d flows, %v", len(got), err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestClose(t *testing.T) {
	_, c := startSwitch(t)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	<-c.Done()
	if _, err := c.Dump(deadline(t), 0, 0); err != ErrClosed {
		t.Errorf("error %v", err)
	}
}

func TestDialRefusesOldProtocols(t *testing.T) {
	sw, _ := startSwitch(t)
	sw.Vsctl("set", "Bridge", bridge, "protocols=OpenFlow10,OpenFlow13")
	if _, err := Dial(deadline(t), sw.Mgmt(bridge)); !errors.Is(err, ErrVersion) {
		t.Errorf("error %v", err)
	}
	if _, err := Dial(deadline(t), sw.Mgmt("nosuch")); err == nil || !strings.Contains(err.Error(), "does the bridge exist") {
		t.Errorf("error %v", err)
	}
}

func TestDialIsBoundedByContext(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, l.Addr().String()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}
