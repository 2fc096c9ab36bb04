package bench

import (
	_ "embed"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/template"
	"time"
)

// Report is the result of a run.
type Report struct {
	Opts     Options
	Machine  Machine
	Took     time.Duration
	Traffic  []*Traffic
	Launches []*Launch
	Calls    []*Calls
	Reach    []*Reach
	Memory   *Memory
	// Addresses is nil where they were not measured.
	Addresses *Addresses
	// Plugin is nil where it was not measured.
	Plugin *Plugin
	// Cluster is nil where it was not measured.
	Cluster *Cluster
	// Scale is nil where it was not measured.
	Scale *Scale
}

// Traffic is what went from one container to another.
type Traffic struct {
	Name string
	// Near says that both were on one host.
	Near bool
	// Bits are per second, Rate is in transactions per second.
	Bits, Rate Series
}

// Launch is the time of `docker run`.
type Launch struct {
	Name    string
	Seconds Series
}

// Targets of issue 2.
const (
	targetAttach = 15  // ms, the median of CreateEndpoint and Join together
	targetReply  = 200 // ms, from Join's answer to the first reply
	targetRatio  = 4   // times the throughput of plain Open vSwitch
	targetMemory = 60  // MiB
)

// Target is one line of what is to be reached.
type Target struct {
	What, Want, Got string
	Met             bool
}

// Targets compares with what was to be reached.
func (r *Report) Targets() []Target {
	var t []Target
	add := func(what, want, got string, met bool) { t = append(t, Target{what, want, got, met}) }
	for _, c := range r.Calls {
		got := c.Attach.Median()
		add("CreateEndpoint + Join, median, "+c.Name, fmt.Sprintf("≤ %d ms", targetAttach), fmt.Sprintf("%.1f ms", got), got <= targetAttach)
	}
	for _, p := range r.Reach {
		got := p.Reply.Max()
		add("first reply after Join's answer, slowest of "+fmt.Sprint(len(p.Reply))+", "+p.Name, fmt.Sprintf("≤ %d ms", targetReply),
			fmt.Sprintf("%.0f ms", got), got <= targetReply)
	}
	ratio := r.bits(nameKernel, false) / r.bits(namePlain, false)
	add("throughput between hosts, "+nameKernel+", against "+namePlain+" without segmentation offload", fmt.Sprintf("≥ %d times", targetRatio),
		fmt.Sprintf("%.1f times", ratio), ratio >= targetRatio)
	if m := r.Memory; m != nil {
		got := max(m.Holder.Now, m.Other.Now)
		add(fmt.Sprintf("agent's memory with %d endpoints on %d networks", m.Endpoints, m.Networks), fmt.Sprintf("< %d MiB", targetMemory),
			fmt.Sprintf("%.0f MiB", got), got < targetMemory)
	}
	return t
}

// bits is the median throughput of a path; NaN where it was not measured.
func (r *Report) bits(name string, near bool) float64 {
	if t := r.traffic(name, near); t != nil {
		return t.Bits.Median()
	}
	return math.NaN()
}

func (r *Report) rate(name string, near bool) float64 {
	if t := r.traffic(name, near); t != nil {
		return t.Rate.Median()
	}
	return math.NaN()
}

func (r *Report) traffic(name string, near bool) *Traffic {
	i := slices.IndexFunc(r.Traffic, func(t *Traffic) bool { return t.Name == name && t.Near == near })
	if i < 0 {
		return nil
	}
	return r.Traffic[i]
}

func (r *Report) launch(name string) float64 {
	i := slices.IndexFunc(r.Launches, func(l *Launch) bool { return l.Name == name })
	if i < 0 {
		return math.NaN()
	}
	return r.Launches[i].Seconds.Median()
}

//go:embed benchmarks.md.tmpl
var page string

// Write writes the page.
func (r *Report) Write(w io.Writer) error { return write(w, "page", r) }

// write writes the page, or the part of it with that name.
func write(w io.Writer, part string, figures any) error {
	funcs := template.FuncMap{
		"gbit":    func(s Series) string { return spread(s, 1e-9, 2) },
		"whole":   func(s Series) string { return spread(s, 1, 0) },
		"seconds": func(s Series) string { return spread(s, 1, 2) },
		"ms":      func(s Series) string { return spread(s, 1, 1) },
		"p99":     func(s Series) string { return fmt.Sprintf("%.1f", s.Quantile(0.99)) },
		"rtt":     func(s Series) string { return fmt.Sprintf("%.0f", 1e6/s.Median()) },
		"methods": func(m map[string]Histogram) []string { return slices.Sorted(maps.Keys(m)) },
		"milli":   func(seconds float64) string { return fmt.Sprintf("%.2f", 1000*seconds) },
		"micro":   func(s Series) string { return spread(s, 1, 1) },
		"ratio":   func(a, b Series) string { return times(a.Median() / b.Median()) },
		"join":    func(s []string) string { return strings.Join(s, ", ") },
		"where":   where,
		"row":     func(cells []string) string { return "| " + strings.Join(cells, " | ") + " |" },
	}
	t, err := template.New("page").Funcs(funcs).Parse(page)
	if err != nil {
		return fmt.Errorf("page of benchmarks: %w", err)
	}
	if err := t.ExecuteTemplate(w, part, figures); err != nil {
		return fmt.Errorf("page of benchmarks: %w", err)
	}
	return nil
}

func where(near bool) string {
	if near {
		return "one host"
	}
	return "two hosts"
}

// spread shows the median and, in brackets, the least and the most.
func spread(s Series, factor float64, digits int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.Median()*factor, digits, s.Min()*factor, digits, s.Max()*factor)
}

// Comparison is one figure of SocketPlane against another's, by tunnel.
type Comparison struct {
	What, Against string
	Kernel, OVS   string
}

// Comparisons are SocketPlane's medians as multiples of the others', wins and losses alike, and the difference of `docker run`.
func (r *Report) Comparisons() []Comparison {
	var rows []Comparison
	for _, near := range []bool{false, true} {
		for _, f := range []struct {
			name   string
			figure func(string, bool) float64
		}{{"throughput", r.bits}, {"transactions", r.rate}} {
			for _, theirs := range []string{nameUnderlay, nameSwarm, nameBridge, namePlain} {
				if base := f.figure(theirs, near); !math.IsNaN(base) {
					rows = append(rows, Comparison{f.name + ", " + where(near), theirs,
						times(f.figure(nameKernel, near) / base), times(f.figure(nameOVS, near) / base)})
				}
			}
		}
	}
	for _, theirs := range []string{nameSwarm, nameBridge} {
		if base := r.launch(theirs); !math.IsNaN(base) {
			rows = append(rows, Comparison{"`docker run`", theirs, seconds(r.launch(nameKernel) - base), seconds(r.launch(nameOVS) - base)})
		}
	}
	return rows
}

// missing stands for a figure that was not taken.
const missing = "–"

func times(ratio float64) string {
	if math.IsNaN(ratio) {
		return missing
	}
	return fmt.Sprintf("× %.2f", ratio)
}

func seconds(diff float64) string {
	if math.IsNaN(diff) {
		return missing
	}
	return fmt.Sprintf("%+.2f s", diff)
}
