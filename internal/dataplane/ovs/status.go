package ovs

import (
	"fmt"
	"time"
)

func (p *Plane) setStatus(change func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.status)
}

// setReady says whether anything can be forwarded, and logs when that changes.
func (p *Plane) setReady(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.up:
	default:
		if err == nil {
			close(p.up)
		}
	}
	if was := p.readyErr; (was == nil) != (err == nil) {
		if err != nil {
			p.log.Error("data plane is down; running containers keep what the switch has", "err", err)
		} else {
			p.log.Info("data plane is ready", "datapath", p.status.Datapath, "tunnel", p.status.Tunnel)
		}
	}
	p.readyErr, p.status.Err = err, err
	if err == nil && p.behind {
		p.nudge() // it may have come when this pass had been through with its network
	}
}

// setStopped says that nothing is kept true any more: Run has ended, which is no trouble to log.
func (p *Plane) setStopped() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.readyErr = fmt.Errorf("%w: the agent has stopped", ErrNotReady)
	p.status.Err = p.readyErr
}

// setTrouble notes what is wrong with single networks, logs what is new, and gives it back.
func (p *Plane) setTrouble(err error) error {
	p.trouble.Note(err)
	p.setStatus(func(s *Status) {
		if s.Err = err; err == nil {
			s.LastSync = time.Now()
		}
	})
	return err
}
