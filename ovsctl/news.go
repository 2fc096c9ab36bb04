package ovsctl

import (
	"maps"
	"slices"
	"sync"
)

// News is what changed in the database, ours and others', since it was last taken.
type News struct {
	// All says that the connection or ovs-vswitchd came, went or is another one, or a row changed that has no name here: everything may be
	// other than it was.
	All bool
	// Ports are the names of ports, and of their interfaces, that came, changed or went, on whatever bridge; sorted.
	Ports []string
	// Bridges are those of bridges, sorted. A port that comes or goes changes its bridge too.
	Bridges []string
}

// Empty says that nothing changed.
func (n News) Empty() bool { return !n.All && len(n.Ports) == 0 && len(n.Bridges) == 0 }

// news gathers what changes.
type news struct {
	mu             sync.Mutex
	all            bool
	ports, bridges map[string]bool
	signal         chan struct{} // cap 1; nil before the first News
}

// News returns a channel that tells that something changed, and a function that takes what did. Changes are gathered until they are taken: a transaction of many ports is
// many rows; our own writes are among them. The first take says All. There is one consumer; who calls again takes its place.
func (s *Switch) News() (<-chan struct{}, func() News) {
	n := &s.news
	n.mu.Lock()
	defer n.mu.Unlock()
	n.signal = make(chan struct{}, 1)
	n.all = true
	n.signal <- struct{}{}
	return n.signal, n.take
}

func (n *news) take() News {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := News{All: n.all, Ports: slices.Sorted(maps.Keys(n.ports)), Bridges: slices.Sorted(maps.Keys(n.bridges))}
	n.all, n.ports, n.bridges = false, nil, nil
	return out
}

// note adds what changed; what is not a port or bridge is all.
func (n *news) note(ports, bridges []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.signal == nil {
		return
	}
	for _, p := range ports {
		if n.ports == nil {
			n.ports = map[string]bool{}
		}
		n.ports[p] = true
	}
	for _, b := range bridges {
		if n.bridges == nil {
			n.bridges = map[string]bool{}
		}
		n.bridges[b] = true
	}
	n.all = n.all || len(ports)+len(bridges) == 0
	signal(n.signal)
}
