package discovery

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
)

// Options of New; all fields must be set.
type Options struct {
	// Host is this host's id: its own announcements are not its peers'.
	Host string
	// Dev is the underlay's interface, Addr the address there, whose family is spoken.
	Dev  string
	Addr netip.Addr
	// Wake is called when something that was heard, or not any more, differs from before. It must not block.
	Wake   func()
	Logger *slog.Logger
}

const (
	// maxPeers bounds what a flood of forged announcements costs.
	maxPeers = 1024
	// maxTwins bounds how many others are logged that say that they have this host's id.
	maxTwins = 8
	// Answers to questions wait a little: one answer for all who ask, and not from all hosts at once.
	answerLeast = 10 * time.Millisecond
	answerMost  = 80 * time.Millisecond
	// answerPause is the least time between answers.
	answerPause = 250 * time.Millisecond
	// openPause is between tries to open the socket, while the interface is away.
	openPause = 2 * time.Second
	// openSteady is how long a socket must have worked for its end to be news.
	openSteady = 30 * time.Second
	maxPacket  = 9000
)

// bursts are when a change is said again, as a packet may be lost, and when a question is repeated at the start.
func bursts() []time.Duration {
	return []time.Duration{0, 150 * time.Millisecond, 600 * time.Millisecond}
}

// Service announces this host and keeps what it hears of others. Its methods may be called from any goroutine.
type Service struct {
	opts   Options
	change chan struct{}

	mu    sync.Mutex
	mine  *Announcement
	peers map[string]Peer
	twins map[netip.Addr]bool // addresses of others that said that they have this host's id
}

// New describes a service; Run runs it.
func New(opts Options) *Service {
	return &Service{opts: opts, change: make(chan struct{}, 1), peers: map[string]Peer{}, twins: map[netip.Addr]bool{}}
}

// Move says that the host's address is elsewhere. Run must not be running.
func (s *Service) Move(dev string, addr netip.Addr) { s.opts.Dev, s.opts.Addr = dev, addr }

// Announce says what is to be said of this host from now on.
func (s *Service) Announce(a Announcement) { s.announce(&a) }

// Silence lets nothing be said of this host from now on. The others forget in time what was said.
func (s *Service) Silence() { s.announce(nil) }

func (s *Service) announce(a *Announcement) {
	s.mu.Lock()
	same := s.mine == a || s.mine != nil && a != nil && *s.mine == *a
	s.mine = a
	s.mu.Unlock()
	if same {
		return
	}
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// Peers are the hosts that were heard and have not fallen silent, by id.
func (s *Service) Peers() []Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var out []Peer
	for _, p := range s.peers {
		if now.Before(p.expires) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.Host, b.Host) })
	return out
}

// Run announces and hears until ctx ends, and takes the announcement back then.
func (s *Service) Run(ctx context.Context) error {
	trouble := retry.Trouble{Logger: s.opts.Logger, Level: slog.LevelWarn, Text: "other hosts can't be found by mDNS for now; it is tried again"}
	for ctx.Err() == nil {
		sock, err := open(ctx, s.opts.Dev, s.opts.Addr)
		began := time.Now()
		if err == nil {
			err = s.session(ctx, sock)
		}
		if time.Since(began) > openSteady { // it worked for a while
			trouble.Note(nil)
		}
		if ctx.Err() == nil {
			trouble.Note(err)
		}
		retry.Sleep(ctx, openPause)
	}
	return nil
}

// session works with one socket until it fails or ctx ends.
func (s *Service) session(ctx context.Context, sock *socket) error {
	asked := make(chan struct{}, 1)
	failed := make(chan error, 1)
	go func() { failed <- s.hear(sock, asked) }()
	defer func() {
		s.farewell(sock)
		sock.conn.Close()
		<-failed
	}()
	return s.speak(ctx, sock, asked, failed)
}

// speak sends: questions at its start, our announcement in its rhythm, after a change, and when somebody asks.
func (s *Service) speak(ctx context.Context, sock *socket, asked <-chan struct{}, failed chan error) error {
	question, err := query()
	if err != nil {
		return err
	}
	started, asks, says := time.Now(), 0, 0
	changed := started
	var last, answer time.Time // of the last announcement; of the answer that is due
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		if asks < len(bursts()) && !now.Before(started.Add(bursts()[asks])) {
			asks++
			if err := sock.send(question); err != nil {
				return err
			}
		}
		burst := says < len(bursts()) && !now.Before(changed.Add(bursts()[says]))
		every := s.rhythm().every
		if burst || !now.Before(last.Add(every)) || !answer.IsZero() && !now.Before(answer) {
			if burst {
				says++
			}
			last, answer = now, time.Time{}
			if err := s.say(sock); err != nil {
				return err
			}
		}
		next := last.Add(every)
		if asks < len(bursts()) {
			next = earlier(next, started.Add(bursts()[asks]))
		}
		if says < len(bursts()) {
			next = earlier(next, changed.Add(bursts()[says]))
		}
		if !answer.IsZero() {
			next = earlier(next, answer)
		}
		next = earlier(next, s.nextExpiry())
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			failed <- err // session waits for it too
			return err
		case <-s.change:
			changed, says = time.Now(), 0
		case <-asked:
			if answer.IsZero() {
				soon := time.Now().Add(answerLeast + rand.N(answerMost-answerLeast))
				answer = soon
				if rested := last.Add(answerPause); rested.After(soon) {
					answer = rested
				}
			}
		case <-timer.C:
			s.expire()
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (s *Service) rhythm() rhythm {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mine == nil {
		return Member.rhythm()
	}
	return s.mine.State.rhythm()
}

// say sends what we say of ourselves, if we do.
func (s *Service) say(sock *socket) error {
	s.mu.Lock()
	mine := s.mine
	s.mu.Unlock()
	if mine == nil {
		return nil
	}
	packet, err := encode(*mine, mine.State.rhythm().ttl)
	if err != nil {
		return err
	}
	return sock.send(packet)
}

// farewell takes our announcement back. It may be lost; then the others forget us in time.
func (s *Service) farewell(sock *socket) {
	s.mu.Lock()
	mine := s.mine
	s.mu.Unlock()
	if mine == nil {
		return
	}
	if packet, err := encode(*mine, 0); err == nil {
		_ = sock.send(packet)
	}
}

// hear reads until the socket is closed.
func (s *Service) hear(sock *socket, asked chan<- struct{}) error {
	buf := make([]byte, maxPacket)
	for {
		n, _, err := sock.conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		h := decode(buf[:n])
		switch {
		case h.asks:
			select {
			case asked <- struct{}{}:
			default:
			}
		case h.ok:
			s.note(h)
		}
	}
}

// note keeps what was heard of a host.
func (s *Service) note(h heard) {
	now := time.Now()
	s.mu.Lock()
	if h.peer.Host == s.opts.Host {
		twin := h.peer.Addr != s.opts.Addr && !s.twins[h.peer.Addr] && len(s.twins) < maxTwins
		if twin {
			s.twins[h.peer.Addr] = true
		}
		s.mu.Unlock()
		if twin {
			s.opts.Logger.Error("another host says that it has this host's id: if it is a copy of this host, stop its agent, remove its state directory, and start it again",
				"host", h.peer.Host, "name", h.peer.Name, "addr", h.peer.Addr)
		}
		return
	}
	old, known := s.peers[h.peer.Host]
	known = known && now.Before(old.expires)
	switch {
	case h.ttl == 0:
		delete(s.peers, h.peer.Host)
	case known || len(s.peers) < maxPeers:
		// No more than the state's own time to live: a forged announcement is not for ever.
		p := Peer{Announcement: h.peer, Seen: now, First: now, expires: now.Add(min(h.ttl, h.peer.State.rhythm().ttl))}
		if known {
			p.First = old.First
		}
		s.peers[h.peer.Host] = p
	}
	changed := known != (h.ttl != 0) || known && old.Announcement != h.peer
	s.mu.Unlock()
	if changed {
		s.opts.Wake()
	}
}

// nextExpiry is when the next peer is forgotten; at the latest in an hour.
func (s *Service) nextExpiry() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := time.Now().Add(time.Hour)
	for _, p := range s.peers {
		next = earlier(next, p.expires)
	}
	return next
}

func (s *Service) expire() {
	now, gone := time.Now(), false
	s.mu.Lock()
	for host, p := range s.peers {
		if !now.Before(p.expires) {
			delete(s.peers, host)
			gone = true
		}
	}
	s.mu.Unlock()
	if gone {
		s.opts.Wake()
	}
}
