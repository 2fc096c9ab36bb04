package admission

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

func FuzzReadAsk(f *testing.F) {
	f.Add([]byte(`{"version":1,"host":{"id":"0123456789abcdef","name":"alpha","addr":"192.0.2.1","port":4780},"token":"t","secret":"s","again":true,"cluster":"c"}`))
	f.Add([]byte(`{"version":1,"host":{"id":"0123456789abcdef","name":"alpha","addr":"192.0.2.1","port":4780},"trust":1,"epoch":7,"do":"report","leaving":true}`))
	f.Add([]byte(`{"version":1,"host":{"id":"0123456789abcdef","name":"alpha","addr":"192.0.2.1","port":4780},"do":"remove","target":"../cluster/keys"}`))
	f.Add([]byte(`{"version":1,"host":{"id":"0123456789abcdef","name":"alpha","addr":"192.0.2.1","port":4780},"do":"token-create","join":{"id":"a","hash":"00","ca":"00","uses":-1}}`))
	f.Add([]byte(`{"version":1,"host":{"id":"../../keys","name":"a\u001b[31m","addr":"::ffff:192.0.2.1","port":65536}}`))
	f.Add([]byte(`{"version":1,"host":{"id":"0123456789ABCDEF","name":"alpha","addr":"192.0.2.1","port":4780}}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{`))
	f.Add([]byte("\x16\x03\x01"))
	f.Add(bytes.Repeat([]byte(`[`), 10000))
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := readAsk(bytes.NewReader(body))
		if err != nil {
			var r *Refused
			if !errors.As(err, &r) || r.Code != CodeBadRequest || len(r.Text) > 300 {
				t.Errorf("%q: %v", body, err)
			}
			return
		}
		if !a.Do.known() || a.Target != "" && !plain(a.Target, 64) || a.Join != nil && !sound(*a.Join) {
			t.Errorf("%q is read as %+v", body, a)
		}
		h := a.Host
		if store.ValidKey(store.MemberKey(h.ID)) != nil || strings.ContainsAny(h.ID, "/. ") || strings.ToLower(h.ID) != h.ID || !h.Addr.IsValid() || h.Addr.Zone() != "" || h.Addr.Is4In6() ||
			!printable(h.Name, 255) || a.Token != "" && store.ValidKey(store.TokenKey(a.Token)) != nil {
			t.Errorf("%q is read as %+v", body, a)
		}
	})
}

func FuzzReadAnswer(f *testing.F) {
	id, err := trust.LoadIdentity(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	c, err := trust.Found(id, trust.Subject{ID: "0123456789abcdef"}, true, trust.Lifetimes{}, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(store.Encode(answer{Version: 1, Credentials: c.Reveal()}))
	f.Add([]byte(`{"version":1,"refused":{"code":"locked","text":"no\u001b[31m\n"}}`))
	f.Add([]byte(`{"version":1,"credentials":{"schema":1}}`))
	f.Add([]byte(`{"version":1,"credentials":null}`))
	f.Add([]byte(`{"version":1,"done":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := readAnswer(bytes.NewReader(body), false); err == nil && !strings.Contains(strings.ToLower(string(body)), "done") {
			t.Errorf("%q is taken for done", body)
		}
		c, err := readAnswer(bytes.NewReader(body), true)
		if err == nil && (c.Cluster() == "" || len(c.Keys.CAs) == 0) {
			t.Errorf("%q is taken for credentials", body)
		}
		var r *Refused
		if errors.As(err, &r) && strings.ContainsAny(r.Text, "\x1b\n") {
			t.Errorf("%q: %q reaches a terminal", body, r.Text)
		}
	})
}

func TestReadAskIsBounded(t *testing.T) {
	r := &endless{}
	if _, err := readAsk(r); err == nil || r.given > maxAsk+512 {
		t.Errorf("error %v after %d bytes", err, r.given)
	}
}

// endless is a JSON text that does not end.
type endless struct{ given int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '['
	}
	e.given += len(p)
	return len(p), nil
}

func TestLimits(t *testing.T) {
	now := time.Now()
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	enter := func(l *limiter, from netip.Addr, n int, at time.Time) (let int) {
		for range n {
			if a, why := l.enter(from, at); why == "" {
				l.leave(a)
				let++
			}
		}
		return let
	}
	l := newLimiter()
	if got := enter(l, one, 100, now); got != burst {
		t.Errorf("%d connections at once, want %d", got, burst)
	}
	if got := enter(l, two, 10, now); got != 10 {
		t.Errorf("another address is let in %d of 10 times", got)
	}
	if got := enter(l, one, 100, now.Add(2*time.Second)); got != 2*perSecond {
		t.Errorf("%d connections after two seconds, want %d", got, 2*perSecond)
	}
	// Open connections of one address, and of all.
	l = newLimiter()
	open := 0
	for range 100 {
		if _, why := l.enter(one, now); why == "" {
			open++
		}
	}
	if open != maxConnsEach {
		t.Errorf("%d connections of one address are open, want %d", open, maxConnsEach)
	}
	addr := two
	for range 200 {
		if _, why := l.enter(addr, now); why == "" {
			open++
		}
		addr = addr.Next()
	}
	if open != maxConns {
		t.Errorf("%d connections are open, want %d", open, maxConns)
	}
	// What is remembered is bounded, and forgotten.
	l = newLimiter()
	addr = one
	for range 5 * maxAddrs {
		if a, why := l.enter(addr, now); why == "" {
			l.leave(a)
		}
		addr = addr.Next()
	}
	if len(l.accounts) > maxAddrs+1 {
		t.Errorf("%d addresses are remembered", len(l.accounts))
	}
	if got := enter(l, addr, 5, now.Add(time.Minute)); got != 5 || len(l.accounts) > 1 {
		t.Errorf("a minute later a new address is let in %d of 5 times, %d are remembered", got, len(l.accounts))
	}
	for i, want := range []struct {
		after time.Duration
		times int
		log   bool
	}{{0, 1, true}, {time.Second, 1, false}, {30 * time.Second, 2, false}, {61 * time.Second, 3, true}, {62 * time.Second, 1, false}} {
		if times, log := l.repeated("a", now.Add(want.after)); times != want.times || log != want.log {
			t.Errorf("refusal %d: %d times, logged %v", i, times, log)
		}
	}
	for i := range 3 * maxAddrs {
		l.repeated(fmt.Sprint(i), now)
	}
	if len(l.refused) > maxAddrs {
		t.Errorf("%d refusals are remembered", len(l.refused))
	}
	if !l.say(one, now) || l.say(one, now.Add(time.Second)) || !l.say(two, now) || !l.say(one, now.Add(time.Minute)) {
		t.Error("the log says the same too often, or too seldom")
	}
}

// TestRelayedLimits: what is asked through a member is counted for who asks, and what one relays at once is bounded.
func TestRelayedLimits(t *testing.T) {
	now := time.Now()
	member, stranger := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	l := newLimiter()
	through := func(of netip.Addr) (*visit, string) {
		t.Helper()
		v, why := l.enter(member, now)
		if why != "" {
			t.Fatalf("a question that the member relays is not heard: %s", why)
		}
		why = l.relayed(v, of, now)
		return v, why
	}
	let := 0
	for range 3 * burst {
		v, why := through(stranger)
		if why == "" {
			let++
		}
		l.leave(v)
	}
	if let != burst {
		t.Errorf("a stranger asks %d times through a member, want %d", let, burst)
	}
	direct := func(from netip.Addr) (let int) {
		for range 2 * burst {
			if v, why := l.enter(from, now); why == "" {
				l.leave(v)
				let++
			}
		}
		return let
	}
	if got := direct(member); got != burst {
		t.Errorf("the member itself is heard %d times after that, want %d", got, burst)
	}
	if got := direct(stranger); got != burst {
		t.Errorf("the stranger is heard %d times without the member, want %d: a member uses up what is another's", got, burst)
	}
	// What is open at once: at a server, of one member that makes addresses up; at a member, of all and of each.
	l = newLimiter()
	var open []*visit
	for range 2 * maxRelays {
		v, why := through(stranger)
		if stranger = stranger.Next(); why != "" {
			l.leave(v)
			continue
		}
		open = append(open, v)
	}
	if len(open) != maxRelays || l.open != maxRelays {
		t.Errorf("%d questions that one member relays are open, %d are counted, want %d", len(open), l.open, maxRelays)
	}
	for _, v := range open {
		l.leave(v)
	}
	relays := map[netip.Addr]int{}
	open = nil
	for i := range 3 * maxConnsEach {
		from := stranger
		if i >= maxConnsEach {
			from = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		}
		v, why := l.enter(from, now)
		if why == "" {
			why = l.relay(v)
			open = append(open, v)
		}
		if why == "" {
			relays[from]++
		}
	}
	if relays[stranger] != maxRelaysEach || len(relays) != 1+maxRelays-maxRelaysEach {
		t.Errorf("relayed at once are %v, want %d of one address and %d in all", relays, maxRelaysEach, maxRelays)
	}
	for _, v := range open {
		l.leave(v)
	}
	for of, a := range l.accounts {
		if a.open != 0 || a.relays != 0 {
			t.Errorf("when all have left, %v has %d connections and %d relays", of, a.open, a.relays)
		}
	}
	if l.open != 0 || l.relaying != 0 {
		t.Errorf("when all have left, %d connections and %d relays are counted", l.open, l.relaying)
	}
}

func FuzzReadPreamble(f *testing.F) {
	f.Add([]byte("SPRELAY 192.0.2.1\n\x16\x03\x01"))
	f.Add([]byte("SPRELAY fe80::1%eth0\n"))
	f.Add([]byte("SPRELAX "))
	f.Add([]byte("\x16\x03\x01\x02\x00"))
	f.Add([]byte("SPRELAY " + strings.Repeat("0", 200)))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := bytes.NewReader(text)
		read, from, err := readPreamble(r)
		if len(text)-r.Len() > maxPreamble {
			t.Errorf("%d bytes of %q are read", len(text)-r.Len(), text)
		}
		switch {
		case err != nil:
		case from.IsValid() && (from.Zone() != "" || len(read) > 0 || !bytes.HasPrefix(text, []byte(preambleStart))):
			t.Errorf("%q comes from %s", text, from)
		case !from.IsValid() && !bytes.HasPrefix(text, read):
			t.Errorf("of %q, %q is handed on", text, read)
		}
	})
}
