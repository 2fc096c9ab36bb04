package cluster

import "github.com/socketplane/socketplane/store"

// Former makes the host one whose agent is older than store.Keys.Split.
func Former(o *Options) { o.former = true }

// ServeForAMoment leaves a host as it is if it was to be a server for a moment, in which its credentials became those of a client: its Consul runs
// as a server.
func (c *Cluster) ServeForAMoment() error {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if err := c.records.change(func(r *record) { r.Role = store.RoleServer }); err != nil {
		return err
	}
	s.apply()
	return nil
}
