package ovs

import (
	"fmt"
	"time"
)

func (r *Reconciler) setStatus(change func(*Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.status)
}

// setReady says whether anything can be forwarded, and logs when that changes.
func (r *Reconciler) setReady(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.up:
	default:
		if err == nil {
			close(r.up)
		}
	}
	if was := r.readyErr; (was == nil) != (err == nil) {
		if err != nil {
			r.log.Error("data plane is down; running containers keep what the switch has", "err", err)
		} else {
			r.log.Info("data plane is ready", "datapath", r.status.Datapath, "tunnel", r.status.Tunnel)
		}
	}
	r.readyErr, r.status.Err = err, err
}

// setStopped says that nothing is kept true any more: Run has ended, which is no trouble to log.
func (r *Reconciler) setStopped() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.readyErr = fmt.Errorf("%w: the agent has stopped", ErrNotReady)
	r.status.Err = r.readyErr
}

// setTrouble notes what is wrong with single networks, logs what is new, and gives it back.
func (r *Reconciler) setTrouble(err error) error {
	r.trouble.Note(err)
	r.setStatus(func(s *Status) {
		if s.Err = err; err == nil {
			s.LastSync = time.Now()
		}
	})
	return err
}
