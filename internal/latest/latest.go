// Package latest owns answers that may be late: metrics and info are told what was so a moment ago, instead of waiting for a lock that a handler holds across
// the data plane.
//
// It imports the standard library only, and must not know what is asked.
package latest

import (
	"sync"
	"time"
)

// Wait is how long a caller waits for an answer; then it gets the one before.
const Wait = 100 * time.Millisecond

// Value is a value that is asked for by one goroutine at a time, whose callers wait only for a moment. It is safe for concurrent use.
type Value[T any] struct {
	mu      sync.Mutex // guards what follows
	value   T
	running chan struct{} // closed when the present question is answered; nil without one
}

// Get gives the value as ask answers within Wait, else as it was answered last.
func (l *Value[T]) Get(ask func() T) T {
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
	timer := time.NewTimer(Wait)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value
}

// Of is a function that gives what ask gives, or gave last. It is safe for concurrent use.
func Of[T any](ask func() T) func() T {
	var v Value[T]
	return func() T { return v.Get(ask) }
}
