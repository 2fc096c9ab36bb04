package admission

import (
	"net/netip"
	"sync"
	"time"
)

// What one address, and all together, may do. A host that joins asks once; one that was refused, every few seconds.
const (
	maxConns     = 64
	maxConnsEach = 16
	// burst connections at once, and then perSecond.
	burst     = 40
	perSecond = 4
	// sayEvery is how often the log says the same of one address.
	sayEvery = 10 * time.Second
	// repeatEvery is how often the log says that a host is refused for the same reason as before: who has no token asks for ever.
	repeatEvery = time.Minute
	// maxAddrs are remembered; strangers beyond them count as one.
	maxAddrs = 1024
)

// limiter bounds what peers can make this host do. It is safe for concurrent use.
type limiter struct {
	mu    sync.Mutex
	open  int
	addrs map[netip.Addr]*account
	// refused are hosts by key and reason.
	refused map[string]*refusals
}

// refusals are those of one host for one reason.
type refusals struct {
	said  time.Time
	times int
}

// account is what one address has used up.
type account struct {
	open   int
	tokens float64
	at     time.Time
	said   time.Time
}

func newLimiter() *limiter {
	return &limiter{addrs: map[netip.Addr]*account{}, refused: map[string]*refusals{}}
}

// enter counts a connection on the account that it returns, which has to leave; or says why there can't be one.
func (l *limiter) enter(from netip.Addr, now time.Time) (a *account, refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a = l.account(from, now)
	switch {
	case l.open >= maxConns:
		return nil, "too many connections"
	case a.open >= maxConnsEach:
		return nil, "too many connections of this address"
	case a.tokens < 1:
		return nil, "this address asks too often"
	}
	a.tokens--
	a.open++
	l.open++
	return a, ""
}

func (l *limiter) leave(a *account) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	a.open--
}

// say reports whether something may be logged about the address.
func (l *limiter) say(from netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(from, now)
	if now.Sub(a.said) < sayEvery {
		return false
	}
	a.said = now
	return true
}

// repeated counts a refusal. It reports whether to log it, and how many there were since the last that was logged.
func (l *limiter) repeated(what string, now time.Time) (times int, log bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.refused[what]
	if r == nil {
		if len(l.refused) >= maxAddrs {
			clear(l.refused) // some are said once more
		}
		r = &refusals{}
		l.refused[what] = r
	}
	r.times++
	if now.Sub(r.said) < repeatEvery {
		return r.times, false
	}
	times, r.times, r.said = r.times, 0, now
	return times, true
}

// account finds or makes the address's account, with what time has given back. An account with open connections stays.
func (l *limiter) account(from netip.Addr, now time.Time) *account {
	a := l.addrs[from]
	if a == nil && len(l.addrs) >= maxAddrs {
		l.forget(now)
		if len(l.addrs) >= maxAddrs {
			from = netip.Addr{}
			a = l.addrs[from]
		}
	}
	if a == nil {
		a = &account{tokens: burst, at: now}
		l.addrs[from] = a
	}
	if now.After(a.at) {
		a.tokens = min(burst, a.tokens+perSecond*now.Sub(a.at).Seconds())
		a.at = now
	}
	return a
}

// forget removes accounts that have nothing left to remember.
func (l *limiter) forget(now time.Time) {
	for addr, a := range l.addrs {
		if a.open == 0 && now.Sub(a.at) > burst/perSecond*time.Second {
			delete(l.addrs, addr)
		}
	}
}
