package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/socketplane/socketplane/test/scale"
)

// Scale is what a host costs in a large cluster, as test/scale measures it.
type Scale struct {
	Machine Machine
	Took    time.Duration
	scale.Figures
}

// scaleTitle begins the section of the page that a run of its own may replace.
const scaleTitle = "## Scale\n"

// MeasureScale takes the figures of large clusters only. It needs root.
func MeasureScale(ctx context.Context, opts Options) (*Scale, error) {
	w := &world{opts: opts.complete(), began: time.Now()}
	return w.scale(ctx)
}

// Replace writes the section anew into a page.
func (s *Scale) Replace(page string) (string, error) {
	return replaceSection(page, scaleTitle, "scale", s)
}

// scale runs TestMeasure of test/scale, as what it needs belongs to tests.
func (w *world) scale(ctx context.Context) (*Scale, error) {
	w.say("clusters of %v hosts, as records", w.opts.Scale.Sizes)
	s, began := &Scale{Machine: machine(ctx)}, time.Now()
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return nil, fmt.Errorf("find the checkout: %w", err)
	}
	dir, err := os.MkdirTemp("", "sp-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	plan, err := json.Marshal(w.opts.Scale)
	if err != nil {
		return nil, fmt.Errorf("plan of scale: %w", err)
	}
	out := filepath.Join(dir, "figures.json")
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-run", "^TestMeasure$", "-timeout", "60m", "./test/scale")
	cmd.Dir = filepath.Dir(strings.TrimSpace(string(mod)))
	cmd.Env = append(os.Environ(), scale.OutVar+"="+out, scale.PlanVar+"="+string(plan))
	if w.opts.Agent != "" {
		cmd.Env = append(cmd.Env, scale.AgentVar+"="+w.opts.Agent)
	}
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, text)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("figures of scale: %w", err)
	}
	if err := json.Unmarshal(text, &s.Figures); err != nil {
		return nil, fmt.Errorf("figures of scale: %w", err)
	}
	s.Took = time.Since(began)
	return s, nil
}

// Targets of issue 12.
const (
	targetScaleMedian  = 1.5 // times the figure in the smallest cluster
	targetScaleP99     = 3.0
	targetUpdateCPU    = 3.0 // ms
	targetScaleMemory  = 150 // MiB
	targetRestCPU      = 1.0 // percent of a core
	targetFirst        = 15  // s
	targetRestart      = 5   // s
	targetLists        = 2   // s
	targetUpdateKiB    = 20
	targetRestKiB      = 1   // a second
	targetBinds        = 10  // s
	targetCrowdCPU     = 5   // ms
	targetCrowdSwitch  = 1.2 // times plain add-port
	targetCrowdAttach  = 1.3 // times plain add-port
	targetNetworksJoin = 1.3 // times the first
)

// targets collects rows.
type targets []Target

func (t *targets) most(what string, got, most float64, unit string, failed ...string) {
	row := Target{what, fmt.Sprintf("≤ %v %s", most, unit), fmt.Sprintf("%.2f %s", got, unit), got <= most}
	if math.IsNaN(got) { // too few samples for the clock of CPU time
		row.Got, row.Met = "not measured", false
	}
	for _, why := range failed {
		if why != "" {
			row.Got, row.Met = "failed", false
		}
	}
	*t = append(*t, row)
}

// Targets compares with what was to be reached.
func (s *Scale) Targets() []Target {
	var t targets
	if n := len(s.Sizes); n > 0 {
		s.sizes(&t, s.Sizes[0], s.Sizes[n-1])
	}
	if b := s.Binds; b != nil {
		t.most(fmt.Sprintf("%d hosts bind one network at once, three Consul servers", b.Hosts), b.Seconds, targetBinds, "s", b.Failed)
	}
	if c := s.Crowd; c != nil && len(c.Attach) > 0 {
		last := len(c.Attach) - 1
		name := fmt.Sprintf("%d endpoints on one host: ", c.Endpoints)
		t.most(name+"the agent's CPU for one, in the worst tenth", Series(c.AgentCPU).Max(), targetCrowdCPU, "ms", c.Failed)
		t.most(name+"ovs-vswitchd's CPU against plain add-port", Series(c.SwitchCPU).sum()/Series(c.PlainCPU).sum(), targetCrowdSwitch, "times", c.Failed)
		t.most(name+"CreateEndpoint + Join in the last tenth against plain add-port", c.Attach[last]/c.Plain[last], targetCrowdAttach, "times", c.Failed)
	}
	if n := s.Networks; n != nil && len(n.Attach) > 0 {
		ten := min(10, len(n.Attach))
		first, last := Series(n.Attach[:ten]).Median(), Series(n.Attach[len(n.Attach)-ten:]).Median()
		t.most(fmt.Sprintf("%d networks with a container each: CreateEndpoint + Join of the last ten against the first ten", n.Count),
			last/first, targetNetworksJoin, "times", n.Failed)
	}
	return t
}

// sizes compares the largest cluster with the smallest.
func (s *Scale) sizes(t *targets, few, many *scale.Size) {
	name := fmt.Sprintf("%d hosts: ", many.Hosts)
	t.most(name+"another host's update until its flow is there, median, against "+fmt.Sprint(few.Hosts)+" hosts",
		Series(many.Update).Median()/Series(few.Update).Median(), targetScaleMedian, "times", many.Failed["Update"])
	t.most(name+"the same, p99", Series(many.Update).Quantile(0.99)/Series(few.Update).Quantile(0.99), targetScaleP99, "times", many.Failed["Update"])
	t.most(name+"the agent's CPU for an update", many.UpdateCPU, targetUpdateCPU, "ms", many.Failed["Update"])
	t.most(name+"CreateEndpoint + Join, median, against "+fmt.Sprint(few.Hosts)+" hosts",
		Series(many.Attach).Median()/Series(few.Attach).Median(), targetScaleMedian, "times", many.Failed["Attach"])
	t.most(name+"the agent's memory", many.Memory, targetScaleMemory, "MiB", many.Failed["Rest"])
	t.most(name+"the agent at rest, of one core", many.RestCPU, targetRestCPU, "%", many.Failed["Rest"])
	t.most(name+"all endpoints are forwarded after the agent's first start", many.First, targetFirst, "s", many.Failed["First"])
	t.most(name+"a change made meanwhile is forwarded after a restart", many.Restart, targetRestart, "s", many.Failed["Restart"])
	t.most(name+"flows of live endpoints deleted by the restart", float64(many.Gaps), 0, "flows", many.Failed["Restart"])
	t.most(name+"`endpoint ls`, `network ls`, `network inspect`, the slowest", max(many.Endpoints, many.NetworkList, many.Inspect), targetLists, "s",
		many.Failed["Endpoints"], many.Failed["NetworkList"], many.Failed["Inspect"])
	for _, z := range []*scale.Size{few, many} {
		name := fmt.Sprintf("%d hosts: ", z.Hosts)
		t.most(name+"read of Consul for an update", z.UpdateBytes/1024, targetUpdateKiB, "KiB", z.Failed["Update"])
		t.most(name+"read of Consul at rest", z.RestBytes/1024, targetRestKiB, "KiB/s", z.Failed["Rest"])
	}
}

// sum is that of all samples.
func (s Series) sum() (total float64) {
	for _, v := range s {
		total += v
	}
	return total
}

// Rows are the figures of the page's table, one a size.
func (s *Scale) Rows() (rows [][]string) {
	for _, z := range s.Sizes {
		figure := func(name, format string, v float64) string {
			if z.Failed[name] != "" || math.IsNaN(v) {
				return "failed"
			}
			return fmt.Sprintf(format, v)
		}
		update, attach := Series(z.Update), Series(z.Attach)
		rows = append(rows, []string{
			fmt.Sprint(z.Hosts),
			figure("Update", "%.1f", update.Median()) + ", " + figure("Update", "%.1f", update.Quantile(0.99)),
			figure("Update", "%.1f", z.UpdateCPU), figure("Update", "%.1f", z.UpdateBytes/1024),
			figure("Attach", "%.1f", attach.Median()),
			figure("Rest", "%.0f", z.Memory), figure("Rest", "%.2f", z.RestCPU), figure("Rest", "%.0f", z.RestBytes),
			figure("First", "%.1f", z.First), figure("Restart", "%.1f", z.Restart), figure("Restart", "%.0f", float64(z.Gaps)),
			figure("Endpoints", "%.2f", z.Endpoints), figure("NetworkList", "%.2f", z.NetworkList), figure("Inspect", "%.2f", z.Inspect),
		})
	}
	return rows
}

// NetworkRows are the figures of a host with many networks, one a tenth.
func (s *Scale) NetworkRows() (rows [][]string) {
	if s.Networks == nil || len(s.Networks.Plain) != len(s.Networks.Attach) {
		return nil
	}
	n, tenths := s.Networks, len(s.Networks.SwitchCPU)
	for i := range tenths {
		from, to := i*n.Count/tenths, (i+1)*n.Count/tenths
		row := []string{fmt.Sprint(to)}
		for _, v := range []float64{
			Series(n.Create[from:to]).Median(), Series(n.Attach[from:to]).Median(), Series(n.Plain[from:to]).Median(), n.SwitchCPU[i], n.PlainCPU[i],
		} {
			row = append(row, fmt.Sprintf("%.1f", v))
		}
		rows = append(rows, row)
	}
	return rows
}

// CrowdRows are the figures of a crowded host, one a tenth.
func (s *Scale) CrowdRows() (rows [][]string) {
	for i, attach := range s.Crowd.Attach {
		row := []string{fmt.Sprint((i + 1) * s.Crowd.Endpoints / len(s.Crowd.Attach))}
		for _, v := range []float64{attach, s.Crowd.Plain[i], s.Crowd.AgentCPU[i], s.Crowd.SwitchCPU[i], s.Crowd.PlainCPU[i]} {
			row = append(row, fmt.Sprintf("%.1f", v))
		}
		rows = append(rows, row)
	}
	return rows
}
