package hostlink

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// breaker subscribes for real, and can break what it has subscribed to.
type breaker struct {
	mu     sync.Mutex
	real   func(groups ...uint) (messages, error)
	last   *breakable
	refuse int // how many of the next subscriptions fail
	opened int
}

// breakable is a subscription whose next answer may be an error.
type breakable struct {
	messages
	mu   sync.Mutex
	next error
}

func (b *breaker) subscribe(groups ...uint) (messages, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse > 0 {
		b.refuse--
		return nil, errors.New("too many open files")
	}
	real, err := b.real(groups...)
	if err != nil {
		return nil, err
	}
	b.opened++
	b.last = &breakable{messages: real}
	return b.last, nil
}

func (b *breakable) Receive() ([]syscall.NetlinkMessage, *unix.SockaddrNetlink, error) {
	msgs, from, err := b.messages.Receive()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		err, b.next = b.next, nil
		return nil, nil, err
	}
	return msgs, from, err
}

// TestWatchesGoOn: a subscription that fails is made again, and what was missed in between is signalled.
func TestWatchesGoOn(t *testing.T) {
	for name, watch := range map[string]func(*space, context.Context) (<-chan struct{}, error){
		"links":   func(s *space, ctx context.Context) (<-chan struct{}, error) { return s.Watch(ctx) },
		"network": func(s *space, ctx context.Context) (<-chan struct{}, error) { return s.WatchNetwork(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			s.nic("eth0", "10.1.0.1/24")
			var out bytes.Buffer
			s.log = slog.New(slog.NewTextHandler(&out, nil))
			b := &breaker{real: s.subscribe}
			s.subscribe, s.feedAgain = b.subscribe, 20*time.Millisecond
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			changed, err := watch(s, ctx)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				b.mu.Lock()
				b.refuse = 2
				b.last.Close()
				b.mu.Unlock()
				awaitSignal(t, changed, "the subscription is made again")
			}
			drain(changed)
			ensureVeth(t, s, testVeth())
			s.ip("addr", "add", "10.1.0.2/24", "dev", "eth0")
			awaitSignal(t, changed, "a change after it was made again")
			cancel()
			eventually(t, "the channel is closed", func() bool {
				select {
				case _, open := <-changed:
					return !open
				default:
					return false
				}
			})
			if n := strings.Count(out.String(), "level=WARN"); n != 1 || b.opened != 4 {
				t.Errorf("%d warnings, %d subscriptions:\n%s", n, b.opened, out.String())
			}
		})
	}
}

// TestWatchAfterLoss: links that became ours while messages were lost are known afterwards.
func TestWatchAfterLoss(t *testing.T) {
	s, v := newSpace(t), testVeth()
	b := &breaker{real: s.subscribe}
	s.subscribe = b.subscribe
	changed, err := s.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	b.last.mu.Lock()
	b.last.next = unix.ENOBUFS // instead of the first message about the new link
	b.last.mu.Unlock()
	b.mu.Unlock()
	ensureVeth(t, s, v)
	awaitSignal(t, changed, "the loss")
	drain(changed)
	s.ip("link", "set", v.Host, "alias", "")
	awaitSignal(t, changed, "a link loses its alias")
}

func awaitSignal(t *testing.T, changed <-chan struct{}, what string) {
	t.Helper()
	select {
	case _, open := <-changed:
		if !open {
			t.Fatalf("%s: the watch has ended", what)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s is not signalled", what)
	}
}
