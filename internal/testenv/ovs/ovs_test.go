package ovs_test

import (
	"os"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
)

func TestSwitchServesAndSurvivesRestart(t *testing.T) {
	sw := ovs.Start(t)
	if _, err := os.Stat(sw.AddBridge("br0")); err != nil {
		t.Fatalf("no OpenFlow socket: %v", err)
	}
	sw.Ofctl("add-flow", "br0", "table=0,actions=drop")
	if got := sw.Flows("br0"); len(got) != 1 || !strings.Contains(got[0], "actions=drop") {
		t.Errorf("flow is not there: %q", got)
	}
	if got := sw.NSExec("ip", "-o", "link"); !strings.Contains(got, "br0") {
		t.Errorf("the bridge is not in the switch's namespace: %q", got)
	}
	sw.StopVswitchd()
	sw.StartVswitchd()
	if got := sw.Flows("br0"); len(got) != 0 {
		t.Errorf("flows after a restart: %q", got)
	}
}

func TestTwoSwitchesSideBySide(t *testing.T) {
	for range 2 {
		sw := ovs.Start(t, ovs.WithTSO())
		sw.AddBridge("br0")
		if got := sw.Vsctl("get", "Open_vSwitch", ".", "other_config:userspace-tso-enable"); got != `"true"` {
			t.Errorf("userspace-tso-enable = %s", got)
		}
	}
}
