package ovs_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv/ovs"
)

// TestFollow: a flow that is missing for a moment is told with the moment; one that stays, under whatever cookie, is not, nor one that is not needed.
func TestFollow(t *testing.T) {
	sw := ovs.Start(t)
	sw.AddBridge("br0")
	sw.Vsctl("add-port", "br0", "p1", "--", "set", "Interface", "p1", "type=internal")
	sw.NSExec("ip", "link", "set", "p1", "up")
	const (
		live  = "table=10,priority=5,dl_dst=02:00:00:00:00:01,actions=set_field:0x7->reg0,resubmit(,20)"
		other = "table=10,priority=5,dl_dst=02:00:00:00:00:02,actions=drop"
		lower = "table=10,priority=1,actions=drop"
	)
	for _, flow := range []string{live, other, lower, "table=10,priority=0,actions=drop"} {
		sw.Ofctl("add-flow", "br0", "cookie=0x5350000000000001,"+flow)
	}
	f := sw.Follow("br0")
	if f.Needed() != 4-1 { // the last two differ in what is not told
		t.Errorf("%d flows are needed", f.Needed())
	}
	ours := func(flow ovs.Flow) bool { return flow.Match == "dl_dst=02:00:00:00:00:01" }
	for _, c := range []struct {
		name string
		do   func()
		want []string // of the one gap, "" for none
	}{
		{"nothing happens", func() {}, nil},
		{"a new generation", func() { sw.Ofctl("add-flow", "br0", "cookie=0x5350000000000002,"+live) }, nil},
		{"the old one goes", func() { sw.Ofctl("del-flows", "br0", "cookie=0x5350000000000001/-1") }, nil},
		{"another flow changes", func() {
			sw.Ofctl("add-flow", "br0", other)
			sw.Ofctl("mod-flows", "br0", strings.Replace(other, "drop", "output:1", 1))
			sw.Ofctl("--strict", "del-flows", "br0", "table=10,priority=5,dl_dst=02:00:00:00:00:02")
		}, nil},
		{"deleted for a moment", func() {
			sw.Ofctl("--strict", "del-flows", "br0", "table=10,priority=5,dl_dst=02:00:00:00:00:01")
			sw.Ofctl("add-flow", "br0", "cookie=0x3,"+live)
		}, []string{"table=10 dl_dst=02:00:00:00:00:01", "was deleted", "20"}},
		{"other actions for a moment", func() {
			sw.Ofctl("add-flow", "br0", strings.Replace(live, "0x7", "0x8", 1))
			sw.Ofctl("add-flow", "br0", live)
		}, []string{"table=10 dl_dst=02:00:00:00:00:01", "was replaced"}},
		{"modified for a moment", func() {
			sw.Ofctl("mod-flows", "br0", strings.Replace(live, "0x7", "0x8", 1))
			sw.Ofctl("mod-flows", "br0", live)
		}, []string{"table=10 dl_dst=02:00:00:00:00:01", "was replaced"}},
		{"a link is down for a moment", func() {
			sw.NSExec("ip", "link", "set", "p1", "down")
			sw.Vsctl("set", "Interface", "p1", "external_ids:a=b")
			sw.NSExec("ip", "link", "set", "p1", "up")
			sw.Vsctl("set", "Interface", "p1", "external_ids:a=c")
		}, []string{"the link of port", "p1"}},
		{"a port goes for a moment", func() {
			sw.Vsctl("del-port", "br0", "p1")
			sw.Vsctl("add-port", "br0", "p1", "--", "set", "Interface", "p1", "type=internal")
		}, []string{"port 1(p1)", "went"}},
	} {
		f.Keep(ours)
		c.do()
		gaps := f.Gaps()
		if len(c.want) == 0 && len(gaps) > 0 || len(c.want) > 0 && len(gaps) == 0 {
			t.Errorf("%s: %q", c.name, gaps)
		}
		for _, text := range c.want {
			if !slices.ContainsFunc(gaps, func(g string) bool { return strings.Contains(g, text) }) {
				t.Errorf("%s: no gap says %q: %q", c.name, text, gaps)
			}
		}
	}
}

// TestFollowLosesNoDeletion: eight thousand flows that come under another cookie at once are more than Open vSwitch tells without a pause.
func TestFollowLosesNoDeletion(t *testing.T) {
	sw := ovs.Start(t)
	sw.AddBridge("br0")
	var file strings.Builder
	for i := range 8000 {
		file.WriteString(ovsFlow(i))
	}
	path := sw.RunDir + "/flows"
	write(t, path, file.String())
	sw.Ofctl("add-flows", "br0", path)
	f := sw.Follow("br0")
	if f.Needed() != 8000 {
		t.Fatalf("%d flows are needed", f.Needed())
	}
	write(t, path, strings.ReplaceAll(file.String(), "cookie=0x1", "cookie=0x2"))
	sw.Ofctl("--bundle", "add-flows", "br0", path)
	f.Check()
	sw.Ofctl("del-flows", "br0", "table=10,nw_src=10.0.0.78,ip")
	if gaps := f.Gaps(); !slices.ContainsFunc(gaps, func(g string) bool { return strings.Contains(g, "nw_src=10.0.0.78") }) {
		t.Errorf("gaps: %q", gaps)
	}
}

func ovsFlow(i int) string {
	return fmt.Sprintf("table=10,cookie=0x1,priority=5,ip,nw_src=10.0.%d.%d,actions=set_field:%#x->reg0,resubmit(,20)\n", i/256, i%256, i+1)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
