package mirror

import "time"

// Last is how the passes went.
type Last struct {
	// At is when a pass last ended without an error; zero for never since the agent's start.
	At time.Time
	// Err is that of the pass that ended last, nil if it had none.
	Err error
}

// Last tells how the passes went.
func (m *Mirror) Last() Last {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// ended notes how a pass went.
func (m *Mirror) ended(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last.Err = err; err == nil {
		m.last.At = time.Now()
	}
}
