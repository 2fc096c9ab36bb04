package e2e

import (
	"context"
	"strings"
	"testing"
	"time"
)

// TestBadInput: what can't be done is refused by an error that says what to do, and changes nothing.
func TestBadInput(t *testing.T) {
	w := need(t)
	ctx := deadline(t, 4*time.Minute)
	all := w.members(ctx, t)
	h := w.Hosts[0]
	taken := all[1].mac
	before, err := w.settled(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cleanup(t, (&segment{w: w, name: "bad", hosts: w.Hosts[:1]}).remove)
	cleanup(t, func(ctx context.Context) error { return remove(ctx, h, "bad") })
	create := []string{"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane"}
	plain := []string{"network", "create", "-d", "socketplane"}
	run := []string{"run", "-d", "--name", "bad", "--network", "web"}
	for name, c := range map[string]struct {
		base []string
		args string
		want []string
	}{
		"same_subnet":             {create, "--subnet 10.60.0.0/24", []string{"10.60.0.0/24", "already", "--subnet"}},
		"same_subnet_of_docker":   {plain, "--subnet 10.60.0.0/24", []string{"10.60.0.0/24"}},
		"smaller_subnet":          {create, "--subnet 10.60.0.128/25", []string{"overlaps", "10.60.0.0/24"}},
		"larger_subnet":           {create, "--subnet 10.60.0.0/16", []string{"overlaps", "10.60.0.0/24"}},
		"overlap_of_docker":       {plain, "--subnet 10.60.0.128/25", []string{"overlaps"}},
		"overlap_ipv6":            {create, "--subnet 10.70.0.0/24 --ipv6 --subnet fd60::/48", []string{"overlaps", "fd60::/64"}},
		"unknown_option":          {create, "--subnet 10.70.0.0/24 -o colour=red", []string{"unknown option", "colour", "mtu"}},
		"unknown_ipam_option":     {create, "--subnet 10.70.0.0/24 --ipam-opt colour=red", []string{"--ipam-opt", "colour"}},
		"mtu_too_small":           {create, "--subnet 10.70.0.0/24 -o mtu=12", []string{"mtu", "576"}},
		"mtu_no_number":           {create, "--subnet 10.70.0.0/24 -o mtu=big", []string{"mtu", "number"}},
		"network_name":            {create, "--subnet 10.70.0.0/24 -o network=a/b", []string{"network"}},
		"no_subnet":               {create, "--subnet 10.70.0.0/33", []string{"10.70.0.0/33"}},
		"gateway_elsewhere":       {create, "--subnet 10.70.0.0/24 --gateway 10.71.0.1", []string{"10.71.0.1"}},
		"gateway_is_broadcast":    {create, "--subnet 10.70.0.0/24 --gateway 10.70.0.255", []string{"10.70.0.255", "broadcast"}},
		"range_elsewhere":         {create, "--subnet 10.70.0.0/24 --ip-range 10.71.0.0/25", []string{"10.71.0.0/25"}},
		"multicast_subnet":        {create, "--subnet 224.1.1.0/24", []string{"224.1.1.0/24"}},
		"loopback_subnet":         {create, "--subnet 127.1.1.0/24", []string{"127.1.1.0/24"}},
		"everything":              {create, "--subnet 0.0.0.0/0", []string{"subnet"}},
		"null_ipam":               {plain, "--ipam-driver null", []string{"subnet"}},
		"address_elsewhere":       {run, "--ip 10.71.0.9", nil},
		"address_is_broadcast":    {run, "--ip 10.60.0.255", []string{"10.60.0.255"}},
		"address_is_subnet":       {run, "--ip 10.60.0.0", []string{"10.60.0.0"}},
		"address_in_use":          {run, "--ip " + all[1].addr.String(), []string{"in use", w.Hosts[1].Name}},
		"address_of_this_host":    {run, "--ip " + all[0].addr.String(), []string{"in use"}},
		"mac_of_a_group":          {run, "--mac-address 01:00:5e:00:00:01", []string{"group"}},
		"mac_in_use_on_this_host": {run, "--mac-address " + all[0].mac, []string{"in use", "--mac-address"}},
		"mac_in_use":              {run, "--mac-address " + taken, []string{"in use", "--mac-address"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(append([]string{}, c.base...), strings.Fields(c.args)...)
			if c.base[0] == "run" {
				args = append(args, "lab:latest")
			} else {
				args = append(args, "bad")
			}
			began := time.Now()
			out, err := h.Docker(ctx, args...)
			if err == nil {
				t.Errorf("no error: %s", out)
			}
			wantError(t, err, c.want...)
			if took := time.Since(began); took > answerTime {
				t.Errorf("it took %v", took)
			}
			if err != nil {
				_, text, _ := strings.Cut(err.Error(), "rror response from daemon: ")
				t.Logf("%s", strings.ReplaceAll(text, "\n", " "))
			}
			if c.base[0] == "run" {
				err = remove(ctx, h, "bad")
			} else if err == nil {
				err = (&segment{w: w, name: "bad", hosts: w.Hosts[:1]}).remove(ctx)
			} else {
				err = nil
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	if !h.AgentRunning() {
		t.Fatalf("the agent ended: %s", h.LogTail("agent", 20))
	}
	if err := w.sameAs(ctx, before); err != nil {
		t.Error(err)
	}
	all[0].reachable(ctx, t, all[1].addr)
}

// TestAgentDoesNotStart: with a setting that can't be read the agent ends, and says what to do. What only the host lacks, such as a usable
// state directory or an address, may come: the agent stays and serves its sockets then (test/onehost, TestNotReady).
func TestAgentDoesNotStart(t *testing.T) {
	w := need(t)
	ctx := deadline(t, time.Minute)
	h := w.Hosts[0]
	apart := []string{"agent", "--store", "bolt", "--plugin-socket", "/run/apart/plugin.sock", "--admin-socket", "/run/apart/admin.sock"}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"unknown_store":  {[]string{"--store", "etcd"}, []string{"etcd", "consul", "bolt"}},
		"unknown_tunnel": {[]string{"--tunnel", "gre"}, []string{"gre", "ovs", "kernel"}},
		"unknown_flag":   {[]string{"--colour"}, []string{"--colour"}},
		"argument":       {[]string{"please"}, []string{"please"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			out, err := h.SocketPlane(ctx, append(append([]string{}, apart...), c.args...)...)
			if err == nil || ctx.Err() != nil {
				t.Fatalf("it does not end with an error: %v %s", err, out)
			}
			wantError(t, err, c.want...)
			_, text, _ := strings.Cut(err.Error(), "exit status")
			t.Logf("exit status%s", text)
		})
	}
	if !h.AgentRunning() || !h.Listening("/run/docker/plugins/socketplane.sock") {
		t.Error("the host's own agent was disturbed")
	}
}
