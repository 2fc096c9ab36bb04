package dockerwatch

import (
	"context"
	"net/http"
)

// Swarm is what Docker says of its swarm on this host.
type Swarm struct {
	Active bool
	// DataPathPort is the UDP port of its overlay networks; 0 on workers, which are not told.
	DataPathPort uint16
}

// Swarm asks Docker whether this host is in a swarm.
func (w *Watcher) Swarm(ctx context.Context) (Swarm, error) {
	var info struct {
		Swarm struct {
			LocalNodeState string
			Cluster        *struct{ DataPathPort uint16 }
		}
	}
	if err := w.call(ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		return Swarm{}, err
	}
	s := Swarm{Active: info.Swarm.LocalNodeState == "active"}
	if c := info.Swarm.Cluster; c != nil {
		s.DataPathPort = c.DataPathPort
	}
	return s, nil
}
