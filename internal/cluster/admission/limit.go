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
	// maxRelays are the questions that a member relays at once; a server takes no more of one member. maxRelaysEach are those of one
	// address that a member relays.
	maxRelays     = 8
	maxRelaysEach = 4
	// sayEvery is how often the log says the same of one address.
	sayEvery = 10 * time.Second
	// repeatEvery is how often the log says that a host is refused for the same reason as before: who has no token asks for ever.
	repeatEvery = time.Minute
	// maxAddrs are remembered; strangers beyond them count as one.
	maxAddrs = 1024
)

// limiter bounds what peers can make this host do. It is safe for concurrent use.
type limiter struct {
	mu       sync.Mutex
	open     int
	relaying int
	accounts map[source]*account
	// refused are hosts by key and reason.
	refused map[string]*refusals
}

// refusals are those of one host for one reason.
type refusals struct {
	said  time.Time
	times int
}

// source is who connects: an address, and the member that relays its questions, if one does. A member that makes addresses up
// uses nothing of theirs up.
type source struct{ from, via netip.Addr }

// account is what one source has used up.
type account struct {
	open   int
	relays int // of open connections: those that this host relays, or that this source has relayed
	tokens float64
	at     time.Time
	said   time.Time
}

// visit is a connection as it is counted. It belongs to one goroutine.
type visit struct {
	from    netip.Addr
	account *account
	relay   *account // whose relays has it, nil for none
	relayed bool     // this host relays it
}

func newLimiter() *limiter {
	return &limiter{accounts: map[source]*account{}, refused: map[string]*refusals{}}
}

// enter counts a connection, which has to leave; or says why there can't be one.
func (l *limiter) enter(from netip.Addr, now time.Time) (v *visit, refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= maxConns {
		return nil, "too many connections"
	}
	a := l.account(source{from: from}, now)
	if refused := a.take(); refused != "" {
		return nil, refused
	}
	l.open++
	return &visit{from: from, account: a}, ""
}

// take counts a connection on the account, or says why there can't be one.
func (a *account) take() (refused string) {
	switch {
	case a.open >= maxConnsEach:
		return "too many connections of this address"
	case a.tokens < 1:
		return "this address asks too often"
	}
	a.tokens--
	a.open++
	return ""
}

// relayed moves a connection from the account of the member that relays it to that of who asks: what strangers ask through a
// member must not use up what the member itself may ask. The connection has to leave in any case.
func (l *limiter) relayed(v *visit, origin netip.Addr, now time.Time) (refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	member := v.account
	member.tokens = min(burst, member.tokens+1)
	if member.relays >= maxRelays {
		return "this member relays too many questions at once"
	}
	a := l.account(source{from: origin, via: v.from}, now)
	if refused := a.take(); refused != "" {
		return refused
	}
	member.open--
	member.relays++
	v.account, v.relay = a, member
	return ""
}

// relay counts a connection as one that this host relays, or says why it does not.
func (l *limiter) relay(v *visit) (refused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.relaying >= maxRelays || v.account.relays >= maxRelaysEach {
		return "too many questions are relayed at once"
	}
	l.relaying++
	v.account.relays++
	v.relay, v.relayed = v.account, true
	return ""
}

func (l *limiter) leave(v *visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	v.account.open--
	if v.relay != nil {
		v.relay.relays--
	}
	if v.relayed {
		l.relaying--
	}
}

// say reports whether something may be logged about the address.
func (l *limiter) say(from netip.Addr, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(source{from: from}, now)
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

// account finds or makes the source's account, with what time has given back. An account with open connections stays.
func (l *limiter) account(of source, now time.Time) *account {
	a := l.accounts[of]
	if a == nil && len(l.accounts) >= maxAddrs {
		l.forget(now)
		if len(l.accounts) >= maxAddrs {
			of = source{}
			a = l.accounts[of]
		}
	}
	if a == nil {
		a = &account{tokens: burst, at: now}
		l.accounts[of] = a
	}
	if now.After(a.at) {
		a.tokens = min(burst, a.tokens+perSecond*now.Sub(a.at).Seconds())
		a.at = now
	}
	return a
}

// forget removes accounts that have nothing left to remember.
func (l *limiter) forget(now time.Time) {
	for of, a := range l.accounts {
		if a.open == 0 && a.relays == 0 && now.Sub(a.at) > burst/perSecond*time.Second {
			delete(l.accounts, of)
		}
	}
}
