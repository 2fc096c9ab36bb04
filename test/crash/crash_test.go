package crash

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// point is the nth hit of a crash point.
type point struct {
	name string
	n    int
}

// death is where the agent is killed, and how Docker takes it.
type death struct {
	scenario, step int
	at             point
	abandon        bool
}

func (d death) String() string {
	then := "repeated"
	if d.abandon {
		then = "given up"
	}
	return fmt.Sprintf("%s at %q (%d), %s", scenarios()[d.scenario][d.step].name, d.at.name, d.at.n, then)
}

func scenarios() [][]step { return [][]step{calls(), restarts(), first(), mirrored()} }

// enoughFailures is after how many the rest is left out.
const enoughFailures = 3

// lanes is how many hosts do it side by side.
const lanes = 3

// TestCrashAtEveryWrite first looks which writes the agent makes in which call, and then kills it at each of them.
func TestCrashAtEveryWrite(t *testing.T) {
	testenv.Root(t)
	testenv.Need(t, "ovs-vswitchd", "ovsdb-server", "dockerd", "docker", "ip", "nsenter", "busybox", "iperf3", "ping", "ethtool", "consul")
	environment(t)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	agent := buildAgent(ctx, t)
	all := startLanes(ctx, t, agent)
	began := time.Now()
	var deaths []death
	seen := map[string]bool{}
	for i, steps := range scenarios() {
		recorded, err := all[0].record(ctx, i, steps, seen)
		if err != nil {
			t.Fatal(err)
		}
		deaths = append(deaths, recorded...)
	}
	t.Logf("%d deaths are to be died; recording took %v", len(deaths), time.Since(began).Round(time.Millisecond))
	reached(t, seen)
	began = time.Now()
	die(ctx, t, all, deaths)
	t.Logf("%d deaths took %v", len(deaths), time.Since(began).Round(time.Second))
}

// buildAgent builds an agent that can be killed at its crash points.
func buildAgent(ctx context.Context, t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "socketplane")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "crashpoints", "-trimpath", "-o", binary, "../../cmd/socketplane")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v: %s", err, out)
	}
	return binary
}

func startLanes(ctx context.Context, t *testing.T, agent string) []*lane {
	t.Helper()
	all, errs := make([]*lane, lanes), make([]error, lanes)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			if all[i], errs[i] = newLane(ctx, t, agent); errs[i] == nil {
				errs[i] = all[i].warm(ctx)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return all
}

// warm plays everything once, so that what is made once is there, and looks what the lane is like at rest.
func (ln *lane) warm(ctx context.Context) error {
	for _, steps := range scenarios() {
		c := ln.newCycle()
		for _, s := range steps {
			if err := s.do(c, ctx); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return waitFor(ctx, forgotten, func(ctx context.Context) error {
		last := ln.view(ctx)
		if err := ln.quiet(ctx); err != nil {
			return err
		}
		ln.empty = ln.view(ctx)
		if different := lab.Compare(last, ln.empty); different != "" {
			return fmt.Errorf("the host does not come to rest:\n%s", different)
		}
		return nil
	})
}

// record plays a scenario and notes which writes are made in each step, with what follows from it in the background.
func (ln *lane) record(ctx context.Context, scenario int, steps []step, seen map[string]bool) (deaths []death, err error) {
	c := ln.newCycle()
	for i, s := range steps {
		if err := ln.quiet(ctx); err != nil {
			return nil, err
		}
		before, err := ln.hits()
		if err != nil {
			return nil, err
		}
		if err := s.do(c, ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		if err := ln.quiet(ctx); err != nil {
			return nil, err
		}
		after, err := ln.hits()
		if err != nil {
			return nil, err
		}
		count := map[string]int{}
		var names []string
		for _, name := range after[len(before):] {
			seen[name] = true
			if s.calm {
				continue
			}
			if count[name]++; count[name] == 1 {
				names = append(names, name)
			}
			deaths = append(deaths, death{scenario: scenario, step: i, at: point{name, count[name]}})
			if s.abandon != nil && count[name] == 1 {
				deaths = append(deaths, death{scenario: scenario, step: i, at: point{name, 1}, abandon: true})
			}
		}
		if !s.calm {
			ln.t.Logf("%s: %v", s.name, count)
			if len(names) == 0 && s.name != "ReleaseAddress of the gateway" {
				ln.t.Errorf("%s writes nothing: are the crash points compiled in?", s.name)
			}
		}
	}
	return deaths, ln.clean(ctx, forgotten)
}

// die dies all deaths, those first after which everything is cleaned up at once.
func die(ctx context.Context, t *testing.T, all []*lane, deaths []death) {
	slices.SortStableFunc(deaths, func(a, b death) int { return rank(a) - rank(b) })
	work := make(chan death)
	var mu sync.Mutex
	missed, failures := map[string]int{}, 0
	var wg sync.WaitGroup
	for _, ln := range all {
		wg.Go(func() {
			for d := range work {
				killed, err := ln.dieOnce(ctx, d)
				mu.Lock()
				if err != nil {
					failures++
					t.Errorf("%s: %v\nthe agent's log:\n%s", d, err, ln.h.LogTail("agent", 12))
				}
				if !killed {
					missed[d.String()]++
				}
				mu.Unlock()
			}
			if err := ln.clean(ctx, forgotten); err != nil {
				t.Errorf("after all deaths: %v", err)
			}
		})
	}
	for _, d := range deaths {
		mu.Lock()
		enough := failures >= enoughFailures
		mu.Unlock()
		if !enough {
			work <- d
		}
	}
	close(work)
	wg.Wait()
	// What happens in the background need not happen again; most of it must, or nothing was tested.
	for d := range missed {
		t.Logf("not reached again: %s", d)
	}
	if len(missed) > len(deaths)/10 {
		t.Errorf("%d of %d deaths were not died", len(missed), len(deaths))
	}
}

// rank is 0 for deaths after which all must be clean at once, and 1 for those after which Docker does not repeat what it
// has lost, so that it is found by comparison.
func rank(d death) int {
	if d.abandon || scenarios()[d.scenario][d.step].late {
		return 1
	}
	return 0
}

// dieOnce plays a scenario in which the agent dies once.
func (ln *lane) dieOnce(ctx context.Context, d death) (killed bool, err error) {
	steps := scenarios()[d.scenario]
	c := ln.newCycle()
	for i := 0; i < len(steps); i++ {
		s := steps[i]
		if i != d.step {
			if err := s.do(c, ctx); err != nil {
				return killed, fmt.Errorf("%s: %w", s.name, err)
			}
			continue
		}
		if err := ln.arm(d.at); err != nil {
			return false, err
		}
		answered := s.do(c, ctx)
		if killed = ln.died(ctx, 8*calm); !killed {
			if answered != nil {
				return false, fmt.Errorf("%s: %w", s.name, answered)
			}
			continue
		}
		if err := c.restart(ctx); err != nil {
			return true, fmt.Errorf("after the death: %w", err)
		}
		if answered == nil {
			continue // it died of what follows in the background
		}
		if d.abandon {
			return true, c.giveUp(ctx, steps, s)
		}
		limit := within
		if s.late {
			limit = forgotten
		}
		if err := waitFor(ctx, limit, func(ctx context.Context) error { return s.do(c, ctx) }); err != nil {
			return true, fmt.Errorf("%s again: %w", s.name, err)
		}
	}
	if rank(d) > 0 {
		return killed, nil // what is left is only found in the end
	}
	return killed, ln.clean(ctx, within)
}

// giveUp does what Docker does when a step has failed.
func (c *cycle) giveUp(ctx context.Context, steps []step, failed step) error {
	for _, name := range failed.abandon {
		i := slices.IndexFunc(steps, func(s step) bool { return s.name == name })
		if err := steps[i].do(c, ctx); err != nil {
			return fmt.Errorf("%s after %s was given up: %w", name, failed.name, err)
		}
	}
	return nil
}
