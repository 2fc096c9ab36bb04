package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/probe"
)

// Limits of what clocks may differ: from the first, logs of two hosts can't be read side by side; from the second, what is
// measured in time (hosts that are down for long, tokens that end) is wrong.
const (
	skewWarns = time.Second
	skewBad   = 30 * time.Second
)

// clock is what is known of a host's clock.
type clock struct {
	host  string
	ahead time.Duration
	err   error
}

// checkClocks asks all hosts that are up for their time.
func (a *agent) checkClocks(ctx context.Context) adminapi.Check {
	members, err := a.cluster.Hosts(ctx)
	if err != nil {
		return adminapi.Check{Name: clocksName, State: adminapi.CheckWarn, Text: "not compared: the hosts are not known at the moment", Cure: "see the store"}
	}
	var clocks []*clock
	var group errgroup.Group
	group.SetLimit(probesAtOnce)
	for id, h := range members.Hosts {
		if id == a.cluster.Host() || !members.Alive[id] || !h.VTEP.IsValid() {
			continue
		}
		c := &clock{host: h.Name}
		clocks = append(clocks, c)
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, probeAnswer)
			defer cancel()
			c.ahead, c.err = probe.Clock(ctx, h.VTEP)
			return nil
		})
	}
	_ = group.Wait()
	slices.SortFunc(clocks, func(a, b *clock) int { return cmp.Compare(a.host, b.host) })
	return clocksVerdict(clocks)
}

const clocksName = "clocks"

// clocksVerdict says what is wrong with the hosts' clocks. One that is not told is no fault: firewalls may drop the question.
func clocksVerdict(clocks []*clock) adminapi.Check {
	state, asked, most := adminapi.CheckOK, 0, time.Duration(0)
	var wrong, silent []string
	for _, c := range clocks {
		if c.err != nil {
			silent = append(silent, c.host)
			continue
		}
		asked++
		most = max(most, c.ahead.Abs())
		if c.ahead.Abs() < skewWarns {
			continue
		}
		way := "ahead of"
		if c.ahead < 0 {
			way = "behind"
		}
		wrong = append(wrong, fmt.Sprintf("that of %s is %v %s this host's", c.host, c.ahead.Abs(), way))
		if state == adminapi.CheckOK {
			state = adminapi.CheckWarn
		}
		if c.ahead.Abs() >= skewBad {
			state = adminapi.CheckBad
		}
	}
	tail := ""
	if len(silent) > 0 {
		tail = "; not told by " + strings.Join(silent, ", ")
	}
	switch {
	case len(wrong) > 0:
		return adminapi.Check{Name: clocksName, State: state, Text: strings.Join(wrong, "; ") + tail,
			Cure: "timedatectl set-ntp true, on all hosts; 'timedatectl' there says which clock is not synchronised"}
	case len(clocks) == 0:
		return ok(clocksName, "no other host is up")
	case asked == 0:
		return ok(clocksName, "no host tells its time (ICMP timestamps, IPv4 only)")
	}
	return ok(clocksName, "those of %d other hosts differ by %v at most%s", asked, most, tail)
}
