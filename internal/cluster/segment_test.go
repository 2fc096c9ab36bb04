package cluster_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
)

// segment is a bridge in a namespace of its own, with hosts in namespaces of theirs.
type segment struct {
	t      testing.TB
	name   string
	consul string
	binary string // of the hosts; empty: this test's own
	hosts  []*host
}

var segments atomic.Int32

func newSegment(t testing.TB) *segment {
	t.Helper()
	testenv.Root(t)
	if _, err := exec.LookPath("ip"); err != nil { // not testenv.Need: these tests are parallel, as they wait most of the time
		testenv.Missing(t, "needs the program ip: run test/tools/install.sh")
	}
	binary, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	s := &segment{t: t, name: fmt.Sprintf("spcl%d-%d", os.Getpid(), segments.Add(1)), consul: binary}
	s.space(s.name)
	ip(t, "-n", s.name, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
	ip(t, "-n", s.name, "link", "set", "br0", "up")
	return s
}

func (s *segment) space(name string) {
	ip(s.t, "netns", "add", name)
	s.t.Cleanup(func() { ip(s.t, "netns", "del", name) })
	ip(s.t, "-n", name, "link", "set", "lo", "up")
}

// await polls until ok, and fails the test with what the hosts say of themselves.
func (s *segment) await(what string, limit time.Duration, ok func() bool) time.Duration {
	s.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := testenv.Poll(ctx, 100*time.Millisecond, ok); err != nil {
		for _, h := range s.hosts {
			st := h.status()
			s.t.Logf("%s %s: %s in %q as %s, %d members, leader %s, voters %d, foreign %v: %s", h.cfg.Name, h.cfg.ID, st.State, st.Cluster, st.Role,
				len(st.Members), st.Leader, len(st.Voters), st.Foreign, st.Trouble)
		}
		s.t.Fatalf("%s: not within %v", what, limit)
	}
	took := time.Since(began)
	s.t.Logf("%s: after %v", what, took.Round(10*time.Millisecond))
	return took
}

// formed says whether the hosts are one cluster with so many servers, all of which vote.
func formed(servers int, hosts ...*host) bool {
	id, voters := "", -1
	for _, h := range hosts {
		st := h.status()
		if st.State != cluster.Member || len(st.Members) != len(hosts) || id != "" && id != st.Cluster {
			return false
		}
		id = st.Cluster
		count := 0
		for _, m := range st.Members {
			switch {
			case m.Role == store.RoleServer:
				count++
			case slices.Contains(st.Voters, m.ID):
				return false // it is about to be replaced
			}
		}
		if count != servers {
			return false
		}
		if len(st.Voters) > 0 {
			voters = len(st.Voters)
		}
	}
	return voters == servers
}

func ip(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
	return string(out)
}
