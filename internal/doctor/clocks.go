package doctor

import (
	"cmp"
	"context"
	"errors"
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
	at    netip.Addr
	ahead time.Duration
	err   error
}

// clockAnswer is how long a host may take to tell its time.
const clockAnswer = time.Second

// ClockDeps are what clocks are looked at with.
type ClockDeps struct {
	Hosts func(context.Context) ([]Peer, error)
	// Ask says how much a host's clock is ahead of this host's; its error wraps ErrNoAnswer if nothing comes back.
	Ask func(context.Context, netip.Addr) (time.Duration, error)
	// Reached says whether anything else comes back from a host.
	Reached func(context.Context, netip.Addr) bool
	// Synced says whether this host's kernel holds its clock for synchronised.
	Synced func() (bool, error)
}

// Clocks asks all hosts that are up for their time.
func Clocks(d ClockDeps) Check {
	return Check{Name: nameClocks, Limit: clocksLimit, Looks: "the time of all hosts that are up (ICMP timestamps); if none tells it, what this host's kernel says of its own clock", Look: func(ctx context.Context) Finding {
		peers, err := d.Hosts(ctx)
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
			c := &clock{host: p.Name, at: p.VTEP}
			clocks = append(clocks, c)
			group.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, clockAnswer)
				defer cancel()
				c.ahead, c.err = d.Ask(ctx, p.VTEP)
				return nil
			})
		}
		_ = group.Wait() // no part returns an error
		if six > 0 && len(clocks) == 0 {
			return NotApplicable("the other hosts have IPv6 addresses, and ICMPv6 has no timestamps; 'timedatectl' on each host says whether its clock is synchronised")
		}
		slices.SortFunc(clocks, func(a, b *clock) int { return cmp.Compare(a.host, b.host) })
		if f, is := d.untold(ctx, clocks); is {
			return f
		}
		return clocksVerdict(clocks)
	}}
}

// untold is for hosts none of which tells its time though they are reached: firewalls often drop ICMP timestamps. Then there is no more to look
// at than this host's own clock. Programs that keep it need not tell the kernel, so that its "not synchronised" proves nothing.
func (d ClockDeps) untold(ctx context.Context, clocks []*clock) (Finding, bool) {
	for _, c := range clocks {
		if !errors.Is(c.err, ErrNoAnswer) && !denied(c.err) { // another host's firewall drops them, or this host's own
			return Finding{}, false
		}
	}
	ctx, cancel := context.WithTimeout(ctx, reachedAnswer)
	defer cancel()
	reached := make(chan bool, len(clocks))
	for _, c := range clocks[:min(len(clocks), partsAtOnce)] {
		go func() { reached <- d.Reached(ctx, c.at) }()
	}
	for range min(len(clocks), partsAtOnce) {
		if !<-reached {
			continue
		}
		dropped := "the other hosts are reached, but tell no time: firewalls drop ICMP timestamps (types 13 and 14)"
		if err := clocks[0].err; denied(err) {
			dropped = fmt.Sprintf("the other hosts are reached, but can't be asked for their time (%v): this host's own firewall drops ICMP timestamps (type 13), or the agent lacks CAP_NET_RAW", err)
		}
		if synced, err := d.Synced(); err == nil && synced {
			return OK("this host's clock is synchronised, as the kernel says; %s", dropped), true
		}
		return NotApplicable("%s; 'timedatectl' on each host says whether its clock is synchronised", dropped), true
	}
	return Finding{}, false
}

// Bounds: of the question whether hosts are reached at all, and of the whole check.
const (
	reachedAnswer = 2 * time.Second
	clocksLimit   = 8 * time.Second
)

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
		return Unknown("no host tells its time: "+clocks[0].err.Error(), "see the ways to the other hosts; let ICMP timestamps (types 13 and 14) through between the hosts, or compare 'date' on them yourself")
	}
	return OK("those of %d other hosts differ by %v at most%s", asked, most, tail)
}
