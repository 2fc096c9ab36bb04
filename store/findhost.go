package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrAmbiguous says that several hosts are meant by one name.
var ErrAmbiguous = errors.New("ambiguous")

// FindHost returns the host with this id, this name, or the only one whose id begins so; else ErrNotFound, or ErrAmbiguous with
// the ids of those that are meant.
func (m Membership) FindHost(name string) (Host, error) {
	if h, ok := m.Hosts[name]; ok {
		return h, nil
	}
	if m.Unreadable[name] != nil {
		return Host{ID: name}, nil
	}
	named := m.Named(name)
	switch {
	case len(named) == 1:
		return named[0], nil
	case len(named) > 1:
		return Host{}, fmt.Errorf("%w: %d hosts are called %s: %s: give the id of one", ErrAmbiguous, len(named), name, m.list(named))
	}
	begun := m.where(func(h Host) bool { return name != "" && strings.HasPrefix(h.ID, name) })
	switch len(begun) {
	case 1:
		return begun[0], nil
	case 0:
		return Host{}, fmt.Errorf("%w: the cluster has no host %s: see 'socketplane host ls'", ErrNotFound, name)
	}
	return Host{}, fmt.Errorf("%w: the ids of %d hosts begin with %s: %s: give more of it", ErrAmbiguous, len(begun), name, m.list(begun))
}

// Named are the hosts with this name, sorted by id.
func (m Membership) Named(name string) []Host {
	return m.where(func(h Host) bool { return name != "" && h.Name == name })
}

func (m Membership) where(is func(Host) bool) []Host {
	var found []Host
	for _, h := range m.Hosts {
		if is(h) {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b Host) int { return cmp.Compare(a.ID, b.ID) })
	return found
}

// list tells hosts apart for people.
func (m Membership) list(hosts []Host) string {
	var all []string
	for _, h := range hosts {
		state := "down"
		if m.Alive[h.ID] {
			state = "up"
		}
		all = append(all, fmt.Sprintf("%s (%s at %s, %s)", h.ID, h.Name, h.VTEP, state))
	}
	return strings.Join(all, ", ")
}
