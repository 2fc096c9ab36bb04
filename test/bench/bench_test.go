package bench

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/scale"
)

// TestSmoke takes every figure once and briefly, so that the benchmark works when somebody needs it. What it measures
// says nothing.
func TestSmoke(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ethtool", "consul")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	opts := Options{Rounds: 1, Throughput: time.Second, Rate: 500 * time.Millisecond, Calls: 2, Reach: 1, Endpoints: 6, AddressTimes: "50x", Idle: time.Second,
		Scale: scale.Plan{Sizes: []int{2}, Each: 2, Updates: 2, Attaches: 2, Rest: time.Second, Crowd: 10, Networks: 2, Binds: 2}, Prefix: "smoke", Log: t.Logf}
	r, err := Run(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Traffic {
		if len(p.Bits) != 1 || len(p.Rate) != 1 || p.Bits.Min() <= 0 || p.Rate.Min() <= 0 {
			t.Errorf("%s, %s: %v bits/s, %v transactions/s", p.Name, where(p.Near), p.Bits, p.Rate)
		}
	}
	for _, c := range r.Calls {
		if joins := c.Reported["NetworkDriver.Join"].Count; len(c.Attach) != 2 || joins != 2 {
			t.Errorf("%s: 2 endpoints were made, %d are counted here and %d by the agent", c.Name, len(c.Attach), joins)
		}
	}
	if r.Memory.Holder.Now <= 0 || r.Memory.Other.Now <= 0 {
		t.Errorf("the agents' memory is %+v", r.Memory)
	}
	if c := r.Cluster; len(c.Member) != 1 || len(c.Vote) != 1 || len(c.Join) != 1 || len(c.Idle) != 2 || c.Idle[1].Consul.MiB <= 0 || c.Idle[0].Packets <= 0 {
		t.Errorf("the cluster is %+v", c)
	}
	if s := r.Scale; len(s.Sizes) != 1 || len(s.Sizes[0].Failed) > 0 || len(s.Sizes[0].Update) != 2 || len(s.Sizes[0].Attach) != 2 || s.Sizes[0].Memory <= 0 ||
		s.Crowd.Endpoints != 10 || s.Networks.Count != 2 || s.Binds.Failed != "" {
		t.Errorf("scale is %+v", s)
	}
	if n, used := len(r.Addresses.Allocations), len(r.Addresses.Used); n != 9 || used != 3 {
		t.Errorf("addresses were measured %d and %d times", n, used)
	}
	for _, a := range r.Addresses.Allocations {
		if len(a.Spares.Rate) != 1 || len(a.Spares.P50) != 1 || len(a.Spares.P99) != 1 || len(a.Spares.PerTransaction) != 1 || len(a.Each.Rate) != 1 {
			t.Errorf("%d hosts with %d callers: %+v", a.Hosts, a.Callers, a)
		}
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	if page := out.String(); strings.Contains(page, "NaN") || strings.Contains(page, "no value") {
		t.Errorf("a figure is missing on the page:\n%s", page)
	}
}
