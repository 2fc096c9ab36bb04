package bench

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Addresses are how quickly hosts hand out addresses (the benchmarks of test/addresses), beside one write to the same Consul for each.
type Addresses struct {
	Rounds      int
	Machine     Machine
	Allocations []*Allocation
	Used        []*Used
}

// Busy says that the machine had more to do than this.
func (a *Addresses) Busy() bool { return a.Machine.Load > 2*float64(a.Machine.Cores) }

// Allocation is a number of hosts with a number of callers on each.
type Allocation struct {
	Hosts, Callers int
	// Spares are SocketPlane's addresses, Each those of one compare-and-set a piece.
	Spares, Each Handed
}

// Used is a /16 of which so many addresses are in use already.
type Used struct {
	Addresses int
	Handed
}

// Handed are addresses that were handed out: a second, the times of one in µs, and how many there were for a transaction.
type Handed struct {
	Rate, P50, P99, PerTransaction Series
}

// What a run of test/addresses takes.
const (
	allocateTimes = "5000x"
	usedTimes     = "2000x" // beside 60,000 in a /16
)

// addresses runs the benchmarks of test/addresses, as often as everything else.
func (w *world) addresses(ctx context.Context) (*Addresses, error) {
	a := &Addresses{Rounds: w.opts.Rounds, Machine: machine(ctx)}
	for _, run := range []struct{ name, times string }{{"Allocate", allocateTimes}, {"Used", usedTimes}} {
		w.say("addresses: %s, %d times", run.name, w.opts.Rounds)
		if w.opts.AddressTimes != "" {
			run.times = w.opts.AddressTimes
		}
		mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
		if err != nil {
			return nil, fmt.Errorf("find the checkout: %w", err)
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^Benchmark"+run.name+"$", "-benchtime", run.times,
			"-count", strconv.Itoa(w.opts.Rounds), "-timeout", "30m", "./test/addresses")
		cmd.Dir = filepath.Dir(strings.TrimSpace(string(mod)))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
		if err := a.read(string(out)); err != nil {
			return nil, err
		}
	}
	return a, nil
}

var (
	allocateLine = regexp.MustCompile(`^BenchmarkAllocate/hosts-(\d+)/callers-(\d+)/(spares|write-each)(?:-\d+)?\s+\d+\s+(.*)$`)
	usedLine     = regexp.MustCompile(`^BenchmarkUsed/used-(\d+)(?:-\d+)?\s+\d+\s+(.*)$`)
)

// read takes what go test prints.
func (a *Addresses) read(output string) error {
	for line := range strings.Lines(output) {
		if m := allocateLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			hosts, _ := strconv.Atoi(m[1]) // the expression takes digits only
			callers, _ := strconv.Atoi(m[2])
			h := &a.allocation(hosts, callers).Spares
			if m[3] == "write-each" {
				h = &a.allocation(hosts, callers).Each
			}
			if err := h.read(m[4]); err != nil {
				return err
			}
		}
		if m := usedLine.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			n, _ := strconv.Atoi(m[1])
			if err := a.used(n).read(m[2]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *Addresses) allocation(hosts, callers int) *Allocation {
	for _, known := range a.Allocations {
		if known.Hosts == hosts && known.Callers == callers {
			return known
		}
	}
	added := &Allocation{Hosts: hosts, Callers: callers}
	a.Allocations = append(a.Allocations, added)
	return added
}

func (a *Addresses) used(n int) *Handed {
	for _, known := range a.Used {
		if known.Addresses == n {
			return &known.Handed
		}
	}
	added := &Used{Addresses: n}
	a.Used = append(a.Used, added)
	return &added.Handed
}

// read takes the metrics of one line: numbers, each before its unit.
func (h *Handed) read(metrics string) error {
	fields := strings.Fields(metrics)
	for i := 0; i+1 < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return fmt.Errorf("metrics of a benchmark, %q: %w", metrics, err)
		}
		switch fields[i+1] {
		case "allocs/s":
			h.Rate = append(h.Rate, v)
		case "p50-µs":
			h.P50 = append(h.P50, v)
		case "p99-µs":
			h.P99 = append(h.P99, v)
		case "allocs/txn":
			h.PerTransaction = append(h.PerTransaction, v)
		}
	}
	return nil
}

// Targets of issue 3.
const (
	targetAllocRate = 20  // times the rate of one write each, from one host
	targetAllocP50  = 0.3 // ms
	targetPerTxn    = 8   // addresses a transaction
	targetFlat      = 1.5 // times the cost with few addresses in use
)

// Targets compares with what was to be reached.
func (a *Addresses) Targets() (t []Target) {
	add := func(what, want, got string, met bool) { t = append(t, Target{what, want, got, met}) }
	slowest, fewest := 0.0, math.Inf(1)
	for _, l := range a.Allocations {
		if l.Hosts == 1 {
			ratio := l.Spares.Rate.Median() / l.Each.Rate.Median()
			add(fmt.Sprintf("addresses a second against one Consul write each, one host, %d at once", l.Callers), fmt.Sprintf("≥ %d times", targetAllocRate),
				fmt.Sprintf("%.0f times", ratio), ratio >= targetAllocRate)
		}
		slowest = max(slowest, l.Spares.P50.Median()/1000)
		fewest = min(fewest, l.Spares.PerTransaction.Median())
	}
	add("time of an address, median, in the slowest line", fmt.Sprintf("< %.1f ms", targetAllocP50), fmt.Sprintf("%.3f ms", slowest), slowest < targetAllocP50)
	for _, u := range a.Used {
		fewest = min(fewest, u.PerTransaction.Median())
	}
	add("addresses for each transaction of Consul, in the line with the fewest", fmt.Sprintf("≥ %d", targetPerTxn), fmt.Sprintf("%.0f", fewest),
		fewest >= targetPerTxn)
	if n := len(a.Used); n > 1 {
		first, last := a.Used[0], a.Used[n-1]
		ratio := last.P50.Median() / first.P50.Median()
		add(fmt.Sprintf("time of an address, median, with %d in use in a /16 against %d", last.Addresses, first.Addresses), fmt.Sprintf("≤ %.1f times", targetFlat),
			fmt.Sprintf("%.2f times", ratio), ratio <= targetFlat)
	}
	return t
}

// MeasureAddresses takes the figures of addresses only, which needs neither root nor labs.
func MeasureAddresses(ctx context.Context, opts Options) (*Addresses, error) {
	w := &world{opts: opts.complete(), began: time.Now()}
	return w.addresses(ctx)
}

// sectionTitle begins the section of the page that a run of its own may replace.
const sectionTitle = "## Addresses\n"

// Replace writes the section of addresses anew into a page.
func (a *Addresses) Replace(page string) (string, error) {
	return replaceSection(page, sectionTitle, "addresses", a)
}
