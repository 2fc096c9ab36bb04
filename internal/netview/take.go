package netview

import (
	"slices"
	"strings"
)

// parts are the hashes of what is known of a host, if that has the form of parts.
func (v *View) parts(t *table, host string) (hashes []string, is bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p := t.peers[host]
	if p == nil || p.parts == nil {
		return nil, false
	}
	return p.parts, true
}

// take takes over what was read of other hosts.
func (v *View) take(t *table, w *watch, fresh []news, gone []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t.watch != w { // the watch was ended meanwhile
		return
	}
	for _, host := range gone {
		v.remote -= t.set(host, nil)
	}
	for _, n := range fresh {
		now, hashes := n.parsed, []string(nil)
		if n.head != nil {
			now, hashes = t.merge(n)
		}
		v.remote += len(now) - t.set(n.host, now)
		if p := t.peers[n.host]; p != nil {
			p.parts = hashes
		}
	}
}

// merge is a host's list with other parts, and the hashes of all its parts.
func (t *table) merge(n news) (now []Endpoint, hashes []string) {
	hashes = make([]string, len(n.head.Parts))
	replaced := map[uint16]bool{}
	for _, number := range slices.Concat(n.parts, n.gone) {
		replaced[uint16(number)] = n.bad[number] == nil
	}
	now = slices.Clone(n.parsed)
	if p := t.peers[n.host]; p != nil && p.parts != nil {
		copy(hashes, p.parts)
		for _, e := range p.endpoints {
			if !replaced[e.part] {
				now = append(now, e)
			}
		}
	}
	for number, is := range replaced {
		if is && int(number) < len(hashes) {
			hashes[number] = n.read[int(number)].Hash
		}
	}
	slices.SortFunc(now, byID)
	return slices.CompactFunc(now, func(a, b Endpoint) bool { return strings.Compare(a.ID, b.ID) == 0 }), hashes
}
