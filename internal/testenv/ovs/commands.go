package ovs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Vsctl runs ovs-vsctl, which waits until ovs-vswitchd has done what it says,
// and returns its output without the last newline.
func (s *Switch) Vsctl(args ...string) string {
	s.t.Helper()
	return s.run("ovs-vsctl", append([]string{"--db=" + s.DB, "--timeout=30"}, args...)...)
}

// Ofctl runs ovs-ofctl with OpenFlow 1.4; bridges are given by name.
func (s *Switch) Ofctl(args ...string) string {
	s.t.Helper()
	return s.run("ovs-ofctl", append([]string{"-O", "OpenFlow14", "--timeout=30"}, args...)...)
}

// Appctl runs ovs-appctl against ovs-vswitchd.
func (s *Switch) Appctl(args ...string) string {
	s.t.Helper()
	return s.run("ovs-appctl", append([]string{"-t", s.path("ovs-vswitchd.ctl")}, args...)...)
}

// NSExec runs a program in the switch's network namespace.
func (s *Switch) NSExec(name string, args ...string) string {
	s.t.Helper()
	return s.run("nsenter", append([]string{"--net=" + s.NetNS, name}, args...)...)
}

func (s *Switch) run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.output(name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *Switch) try(name string, args ...string) error {
	_, err := s.output(name, args...)
	return err
}

func (s *Switch) output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env(), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSuffix(stdout.String(), "\n"), nil
}

// env keeps every program of OVS out of the machine's own run directory.
func (s *Switch) env() []string {
	return append(os.Environ(), "OVS_RUNDIR="+s.RunDir, "OVS_DBDIR="+s.RunDir, "OVS_LOGDIR="+s.RunDir, "OVS_SYSCONFDIR="+s.RunDir)
}

// Flows is what the switch says of a bridge's flows, one line a flow in the
// order of tables and priorities, without counters and ages.
func (s *Switch) Flows(bridge string) []string {
	s.t.Helper()
	var flows []string
	for line := range strings.Lines(s.Ofctl("dump-flows", bridge, "--no-stats", "--no-names", "--rsort")) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "OFPST_FLOW reply") {
			flows = append(flows, line)
		}
	}
	return flows
}
