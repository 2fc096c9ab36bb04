package netview

import "slices"

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
	slices.SortFunc(n.parsed, byID) // that of each part is sorted
	if p := t.peers[n.host]; p != nil && p.parts != nil {
		copy(hashes, p.parts)
		now = mergeSorted(p.endpoints, replaced, n.parsed)
	} else {
		now = slices.Clone(slices.CompactFunc(n.parsed, sameID)) // without the room that it grew in
	}
	for number, is := range replaced {
		if is && int(number) < len(hashes) {
			hashes[number] = n.read[int(number)].Hash
		}
	}
	return now, hashes
}

// mergeSorted puts endpoints that were read into a host's list, instead of those whose parts are replaced. Both are sorted, and so is the result. Of
// several with one ID the first that was read stays: a host that moves one to another part may have been seen on the way.
func mergeSorted(old []Endpoint, replaced map[uint16]bool, read []Endpoint) []Endpoint {
	kept := len(read)
	for _, e := range old {
		if !replaced[e.part] {
			kept++
		}
	}
	now := make([]Endpoint, 0, kept)
	add := func(e Endpoint) {
		if k := len(now); k == 0 || now[k-1].ID != e.ID {
			now = append(now, e)
		}
	}
	for _, e := range old {
		if replaced[e.part] {
			continue
		}
		for len(read) > 0 && read[0].ID <= e.ID {
			add(read[0])
			read = read[1:]
		}
		add(e)
	}
	for _, e := range read {
		add(e)
	}
	return now
}
