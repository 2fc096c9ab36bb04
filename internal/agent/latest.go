package agent

import (
	"sync"
	"time"

	"github.com/socketplane/socketplane/driver"
)

// latestWait is how long metrics and info wait for what a handler holds across the data plane; then they tell what was so before.
const latestWait = 100 * time.Millisecond

// latest is a value that is asked for by one goroutine at a time, whose callers wait only for a moment. It is safe for concurrent use.
type latest[T any] struct {
	mu      sync.Mutex // guards what follows
	value   T
	running chan struct{} // closed when the present question is answered; nil without one
}

// get gives the value as ask answers within latestWait, else as it was answered last.
func (l *latest[T]) get(ask func() T) T {
	l.mu.Lock()
	answered := l.running
	if answered == nil {
		answered = make(chan struct{})
		l.running = answered
		go func() {
			value := ask()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.value, l.running = value, nil
			close(answered)
		}()
	}
	l.mu.Unlock()
	timer := time.NewTimer(latestWait)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value
}

// peerCounts are driver.Driver.Peers.
type peerCounts struct{ hosts, endpoints int }

// networks are this host's, for people and metrics: as they were a moment ago while a handler works on one.
func (a *agent) networks() []driver.Summary { return a.summaries.get(a.driver.Networks) }

// peerCount counts the other hosts with endpoints on this host's networks, in the same way.
func (a *agent) peerCount() peerCounts {
	return a.counts.get(func() peerCounts {
		hosts, endpoints := a.driver.Peers()
		return peerCounts{hosts, endpoints}
	})
}
