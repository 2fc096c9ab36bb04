package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/internal/adminapi"
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

// clockAnswer is how long a host may take to tell its time.
const clockAnswer = time.Second

// Clocks asks all hosts that are up for their time.
func Clocks(hosts func(context.Context) ([]Peer, error), ask func(context.Context, netip.Addr) (time.Duration, error)) Check {
	return Check{Name: nameClocks, Looks: "the time of all hosts that are up (ICMP timestamps)", Look: func(ctx context.Context) Finding {
		peers, err := hosts(ctx)
		if err != nil {
			return Unknown("the other hosts are not known: "+err.Error(), "see the store")
		}
		var clocks []*clock
		var group errgroup.Group
		group.SetLimit(partsAtOnce)
		six := 0
		for _, p := range peers {
			switch {
			case !p.Alive || !p.VTEP.IsValid():
				continue
			case p.VTEP.Is6():
				six++
				continue
			}
			c := &clock{host: p.Name}
			clocks = append(clocks, c)
			group.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, clockAnswer)
				defer cancel()
				c.ahead, c.err = ask(ctx, p.VTEP)
				return nil
			})
		}
		_ = group.Wait() // no part returns an error
		if six > 0 && len(clocks) == 0 {
			return NotApplicable("the other hosts have IPv6 addresses, and ICMPv6 has no timestamps; 'timedatectl' on each host says whether its clock is synchronised")
		}
		slices.SortFunc(clocks, func(a, b *clock) int { return cmp.Compare(a.host, b.host) })
		return clocksVerdict(clocks)
	}}
}

// clocksVerdict says what is wrong with the hosts' clocks.
func clocksVerdict(clocks []*clock) Finding {
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
		return Finding{State: state, Saw: strings.Join(wrong, "; ") + tail, Follows: "times in logs do not fit, and hosts and tokens expire at the wrong time",
			Cure: "timedatectl set-ntp true, on all hosts; 'timedatectl' there says which clock is not synchronised"}
	case len(clocks) == 0:
		return NotApplicable("no other host is up")
	case asked == 0:
		return Unknown("no host tells its time: "+clocks[0].err.Error(), "let ICMP timestamps (types 13 and 14) through between the hosts, or compare 'date' on them yourself")
	}
	return OK("those of %d other hosts differ by %v at most%s", asked, most, tail)
}
