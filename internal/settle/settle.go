// Package settle owns how long Docker's calls wait for the data plane's first pass after the agent's start.
//
// It imports the standard library only, and must not know what the data plane does.
package settle

import (
	"context"
	"net"
	"time"
)

// Docker's calls that need the data plane wait for its first pass, as Docker starts its containers the moment that it can, and does not try again.
const (
	// Time is how long after the agent's start they wait where Open vSwitch answers.
	Time = 8 * time.Second
	// switchWait is how long a call waits for an Open vSwitch that does not run.
	switchWait = 700 * time.Millisecond
)

// Settler waits for the data plane. Its method may be called concurrently.
type Settler struct {
	// Began is when the agent began to answer.
	Began time.Time
	// Up is closed while packets can be forwarded.
	Up func() <-chan struct{}
	// Starts says that this process starts Open vSwitch itself; else its database at Socket is looked for.
	Starts bool
	Socket string
}

// Wait waits until packets can be forwarded, for a while after the agent's start.
func (s Settler) Wait(ctx context.Context) {
	limit := time.NewTimer(time.Until(s.Began.Add(Time)))
	defer limit.Stop()
	absent := time.NewTicker(switchWait)
	defer absent.Stop()
	for {
		select {
		case <-s.Up():
			return
		case <-absent.C:
			if !s.comes() {
				return
			}
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// comes says whether Open vSwitch may answer in a moment: this process starts it, or its database listens.
func (s Settler) comes() bool {
	if s.Starts {
		return true
	}
	conn, err := net.DialTimeout("unix", s.Socket, switchWait)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was asked
	return true
}
