package doctor

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// usualLimit is how long a check may take that names no limit.
const usualLimit = 5 * time.Second

// partsAtOnce is how many parts of one check run side by side, partsLimit is when none of them is begun any more: a cluster may have
// hundreds of hosts, and the command line waits for 40 s.
const (
	partsAtOnce = 32
	partsLimit  = 20 * time.Second
)

// Check is something that can be looked at.
type Check struct {
	// Name is one of Names, or begins with one of them and names the part ("way to h2").
	Name string
	// Looks says at what it looks.
	Looks string
	// Limit bounds Look and, each by itself, Parts; 0 means 5 s.
	Limit time.Duration
	// Look looks. It should end with its context. When it does not, its result is that it could not look.
	Look func(context.Context) Finding
	// Parts is for a check that is one for each of several things, which are found when it is run. It is used where Look is nil. The
	// Finding is the result if there are none.
	Parts func(context.Context) ([]Check, Finding)
}

// Finding is the result of one look.
type Finding struct {
	// State is one of adminapi's.
	State string
	// Saw is what was found, Follows what that means for networks (may be empty).
	Saw, Follows string
	// Cure is the command or the setting that mends it; empty if nothing is wrong.
	Cure string
	// Away says that the check does not apply to this host; Saw says why.
	Away bool
}

// OK is a look that found nothing wrong.
func OK(format string, args ...any) Finding {
	return Finding{State: adminapi.CheckOK, Saw: fmt.Sprintf(format, args...)}
}

// Warning is a look that found something that works, but not as it should, or not for long.
func Warning(saw, follows, cure string) Finding {
	return Finding{State: adminapi.CheckWarn, Saw: saw, Follows: follows, Cure: cure}
}

// Error is a look that found something that does not work.
func Error(saw, follows, cure string) Finding {
	return Finding{State: adminapi.CheckBad, Saw: saw, Follows: follows, Cure: cure}
}

// Unknown says that it could not be looked, and why.
func Unknown(cause, cure string) Finding {
	return Finding{State: adminapi.CheckUnknown, Saw: "could not look: " + cause, Cure: cure}
}

// NotApplicable says that there is nothing to look at on this host, and why.
func NotApplicable(format string, args ...any) Finding {
	return Finding{State: adminapi.CheckOK, Saw: "not applicable: " + fmt.Sprintf(format, args...), Away: true}
}

// Run runs all checks side by side, each within its limit, and returns the results in the order of the checks. It takes as long as the slowest check;
// one with many parts takes partsLimit and the limit of a part at most.
func Run(ctx context.Context, checks []Check) []adminapi.Check {
	results := make([][]adminapi.Check, len(checks))
	var running sync.WaitGroup
	for i, c := range checks {
		running.Go(func() { results[i] = c.run(ctx) })
	}
	running.Wait()
	var all []adminapi.Check
	for _, r := range results {
		all = append(all, r...)
	}
	return all
}

func (c Check) run(ctx context.Context) []adminapi.Check {
	if c.Look != nil {
		return []adminapi.Check{c.one(ctx, c.Look)}
	}
	var parts []Check
	whole := c.one(ctx, func(ctx context.Context) Finding {
		found, none := c.Parts(ctx)
		if len(found) == 0 {
			return none
		}
		parts = found
		return Finding{}
	})
	if whole.State != "" {
		return []adminapi.Check{whole} // there are no parts, or they are not known
	}
	results := make([]adminapi.Check, len(parts))
	room := make(chan struct{}, partsAtOnce)
	var running sync.WaitGroup
	closing, cancel := context.WithTimeout(ctx, partsLimit)
	defer cancel()
	for i, p := range parts {
		running.Go(func() {
			select {
			case room <- struct{}{}:
				defer func() { <-room }()
				results[i] = p.one(ctx, p.Look)
			case <-closing.Done():
				results[i] = p.one(context.WithoutCancel(ctx), func(context.Context) Finding {
					return Unknown(fmt.Sprintf("there was no time left after %v, in which others were looked at", partsLimit), "run 'socketplane doctor' again; see the others first")
				})
			}
		})
	}
	running.Wait()
	return results
}

// one looks within the limit. A look that does not end is left to itself: its result is that nothing came.
func (c Check) one(ctx context.Context, look func(context.Context) Finding) adminapi.Check {
	limit := c.Limit
	if limit == 0 {
		limit = usualLimit
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found := make(chan Finding, 1)
	go func() { found <- look(ctx) }()
	var f Finding
	select {
	case f = <-found:
	case <-late(ctx):
		f = Unknown(fmt.Sprintf("it took longer than %v", limit), "see the other checks; 'socketplane support' has what every part of the agent does at the moment")
	}
	text := f.Saw
	if f.Follows != "" {
		text += ": " + f.Follows
	}
	return adminapi.Check{Name: c.Name, State: f.State, Text: text, Cure: f.Cure, Took: time.Since(began),
		Looked: c.Looks, Saw: f.Saw, Follows: f.Follows, NotApplicable: f.Away}
}

// grace is for looks that end with their context and then say what they know.
const grace = time.Second

// late is closed some time after ctx has ended.
func late(ctx context.Context) <-chan struct{} {
	passed := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(grace, func() { close(passed) }) })
	return passed
}
