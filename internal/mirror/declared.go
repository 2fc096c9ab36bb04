package mirror

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/socketplane/socketplane/store"
)

// declarations are the networks that hosts should have, as they were read last. They are read again after the watch has told of a change, and each time
// while it does not answer. It is safe for concurrent use.
type declarations struct {
	mu       sync.Mutex
	names    map[string]string // the cluster's id to name; nil when they are to be read
	err      error             // of records that can't be read
	followed bool              // the watch has answered since its last failure
	changes  uint64            // that the watch has told of
}

// changed notes that the watch has told of a change.
func (d *declarations) changed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names, d.followed = nil, true
	d.changes++
}

// lost notes that the watch does not answer.
func (d *declarations) lost() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names, d.followed = nil, false
}

// last gives what was read last, nil if it is to be read, and the number of changes so far.
func (d *declarations) last() (names map[string]string, changes uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.names), d.changes, d.err
}

// keep notes what was read after so many changes, unless it may be older than a later one.
func (d *declarations) keep(names map[string]string, changes uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.followed && d.changes == changes {
		d.names, d.err = maps.Clone(names), err
	}
}

// declarations are the networks that hosts should have: id to name. While nothing changes one small record is asked for, so that a pass says
// whether the store answers. Records that can't be read are left out; the error that names them comes with the others.
func (m *Mirror) declarations(ctx context.Context) (map[string]string, error) {
	names, changes, err := m.declared.last()
	if names != nil {
		if _, silent := m.cluster.KV().Get(ctx, store.IdentityKey); silent != nil && !errors.Is(silent, store.ErrNotFound) {
			return nil, silent
		}
		return names, err
	}
	if names, err = m.cluster.DeclaredNames(ctx); names != nil {
		m.declared.keep(names, changes, err)
	}
	return names, err
}

// watchDeclared wakes the mirror when the cluster declares something else.
func (m *Mirror) watchDeclared(ctx context.Context) {
	var index uint64
	for failures := 0; ctx.Err() == nil; {
		_, next, err := m.cluster.WatchDeclared(ctx, index)
		if err == nil {
			if failures = 0; next != index {
				m.declared.changed()
				m.Wake()
			}
			index = next
			continue
		}
		index = 0
		m.declared.lost()
		select {
		case <-ctx.Done():
		case <-time.After(m.retry(failures)):
		}
		failures++
	}
}

// again says that a network of this host is declared that was not at the last pass, by another host: it was being removed, and that host has made it again,
// with another VNI.
func (p *pass) again() {
	for _, b := range p.bound {
		_, now := p.declared[b.ID]
		if _, before := p.before[b.ID]; now && !before && p.before != nil && !p.own[b.ID] {
			p.opts.Again()
		}
	}
	p.before, p.own = p.declared, nil
}

// told notes that this host has declared a network itself.
func (p *pass) told(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.own == nil {
		p.own = map[string]bool{}
	}
	p.own[id] = true
}
