package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/socketplane/socketplane/test/scale"
)

// Options of a run. The zero value is a full run, of about half an hour on two idle cores.
type Options struct {
	// Rounds is how often each figure is taken; the page shows their median.
	Rounds int
	// Throughput and Rate are how long one measurement of each sends.
	Throughput, Rate time.Duration
	// Calls is how many endpoints are created and joined one after the other.
	Calls int
	// Reach is how often it is measured how long a container takes to be reachable.
	Reach int
	// Endpoints is how many one host has when the agents' memory is read, on three networks.
	Endpoints int
	// Idle is how long hosts at rest are looked at.
	Idle time.Duration
	// AddressTimes is how many addresses each benchmark of them hands out, as go test's -benchtime; by default enough for its figures.
	AddressTimes string
	// Scale is what test/scale measures; by default all that the page shows.
	Scale scale.Plan
	// Agent is the socketplane binary; by default it is built from the checkout around the working directory.
	Agent string
	// Prefix begins the labs' names; a former lab of the same name is closed first.
	Prefix string
	// Log gets a line for each step; nil drops them.
	Log func(format string, args ...any)
}

func (o Options) complete() Options {
	def := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
	}
	def(&o.Rounds, 5)
	def(&o.Calls, 150)
	def(&o.Reach, 20)
	def(&o.Endpoints, 1000)
	if o.Throughput == 0 {
		o.Throughput = 2 * time.Second
	}
	if o.Rate == 0 {
		o.Rate = time.Second
	}
	if o.Idle == 0 {
		o.Idle = 30 * time.Second
	}
	if len(o.Scale.Sizes) == 0 {
		o.Scale = scale.Full()
	}
	if o.Prefix == "" {
		o.Prefix = "bench"
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	return o
}

// Run starts the labs, measures, and removes everything again. It needs root.
func Run(ctx context.Context, opts Options) (*Report, error) {
	opts = opts.complete()
	w := &world{opts: opts, began: time.Now()}
	report, err := w.run(ctx)
	if err = errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	return report, nil
}

func (w *world) run(ctx context.Context) (*Report, error) {
	r := &Report{Opts: w.opts, Machine: machine(ctx)}
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	for _, p := range w.paths {
		r.Traffic = append(r.Traffic, &Traffic{Name: p.name, Near: p.near})
	}
	for _, l := range w.launches {
		r.Launches = append(r.Launches, &Launch{Name: l.name})
	}
	for round := range w.opts.Rounds {
		w.say("round %d of %d", round+1, w.opts.Rounds)
		if err := w.round(ctx, r); err != nil {
			return nil, err
		}
	}
	for _, s := range w.sites() {
		if err := w.control(ctx, s, r); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	var err error
	if r.Memory, err = w.memory(ctx, w.sites()[0]); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	if r.Addresses, err = w.addresses(ctx); err != nil {
		return nil, fmt.Errorf("addresses: %w", err)
	}
	if r.Plugin, err = w.plugin(ctx); err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	if r.Cluster, err = w.cluster(ctx); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if r.Scale, err = w.scale(ctx); err != nil {
		return nil, fmt.Errorf("scale: %w", err)
	}
	r.Took = time.Since(w.began)
	return r, nil
}

// round takes each figure of traffic once.
func (w *world) round(ctx context.Context, r *Report) error {
	for i, p := range w.paths {
		rate, err := p.rate(ctx, w.opts.Rate)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		r.Traffic[i].Rate = append(r.Traffic[i].Rate, rate)
		bits, err := p.throughput(ctx, w.opts.Throughput)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		r.Traffic[i].Bits = append(r.Traffic[i].Bits, bits)
	}
	for i, l := range w.launches {
		took, err := l.run(ctx)
		if err != nil {
			return fmt.Errorf("docker run, %s: %w", l.name, err)
		}
		r.Launches[i].Seconds = append(r.Launches[i].Seconds, took.Seconds())
	}
	return nil
}

// control measures one agent as Docker meets it.
func (w *world) control(ctx context.Context, s site, r *Report) error {
	w.say("%s: %d endpoints one after the other", s.name, w.opts.Calls)
	seg, err := newSegment(ctx, s, "calls", 0)
	if err != nil {
		return err
	}
	calls, err := w.calls(ctx, s, seg)
	if err != nil {
		return err
	}
	r.Calls = append(r.Calls, calls)
	w.say("%s: time to the first reply, %d times", s.name, w.opts.Reach)
	reach, err := w.reach(ctx, s, seg)
	if err != nil {
		return fmt.Errorf("first reply: %w", err)
	}
	r.Reach = append(r.Reach, reach...)
	return seg.remove(ctx)
}

func (w *world) say(format string, args ...any) {
	w.opts.Log("%4.0f s  %s", time.Since(w.began).Seconds(), fmt.Sprintf(format, args...))
}
