package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Memory is what agents need with many endpoints.
type Memory struct {
	Name                string
	Endpoints, Networks int
	// Holder is the agent of the host that has the endpoints, Other that of a host which only knows them.
	Holder, Other Resident
	// Attach is CreateEndpoint and Join of the last tenth, in milliseconds, with as many clients as there are networks.
	Attach Series
	Took   time.Duration
}

// Resident is a process's memory in MiB: when it had settled, and the most there ever was.
type Resident struct {
	Now, Most float64
}

const memoryNetworks = 3

// memory fills a host. Nothing is taken apart: it comes last, and the lab goes as a whole.
func (w *world) memory(ctx context.Context, s site) (*Memory, error) {
	w.say("%s: %d endpoints on one host", s.name, w.opts.Endpoints)
	m := &Memory{Name: s.name, Endpoints: w.opts.Endpoints, Networks: memoryNetworks}
	start := time.Now()
	var mu sync.Mutex // guards m.Attach
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range memoryNetworks {
		group.Go(func() error {
			seg, err := newSegment(groupCtx, s, fmt.Sprintf("memory%d", i), i+1)
			if err != nil {
				return err
			}
			if _, err := seg.on[1].joined(groupCtx); err != nil {
				return err
			}
			share := (w.opts.Endpoints + memoryNetworks - 1 - i) / memoryNetworks
			for k := range share {
				e, err := seg.on[0].joined(groupCtx)
				if err != nil {
					return fmt.Errorf("endpoint %d of %d: %w", k+1, share, err)
				}
				if k >= share-max(1, share/10) {
					mu.Lock()
					m.Attach = append(m.Attach, milli(e.took.create+e.took.join))
					mu.Unlock()
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	m.Took = time.Since(start)
	if err := settle(ctx); err != nil {
		return nil, err
	}
	var err error
	if m.Holder, err = residentOf(s.lab.Hosts[0].AgentPid()); err != nil {
		return nil, err
	}
	m.Other, err = residentOf(s.lab.Hosts[1].AgentPid())
	return m, err
}

// settleFor is how long an agent is left alone before its memory is read: it then has compared everything once, which it
// does every 30 s.
const settleFor = 35 * time.Second

// settle leaves the agents alone.
func settle(ctx context.Context) error {
	timer := time.NewTimer(settleFor)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// residentOf reads VmRSS and VmHWM (proc(5)).
func residentOf(pid int) (Resident, error) {
	var r Resident
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return r, fmt.Errorf("the agent's memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			r.Now = kib / 1024
		case name == "VmHWM":
			r.Most = kib / 1024
		}
	}
	return r, nil
}
