package netview

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/socketplane/socketplane/store"
)

const (
	// readers is how many reads of a network's records are under way at once.
	readers = 8
	// batch is for how many hosts the table and the copies are written together, when many are
	// read.
	batch = 64
)

// job is what is to be read of one host: its record of the first layout not older than a version of
// its index, or parts that its head names.
type job struct {
	host  string
	index uint64
	head  *store.Head
	// parts are to be read, gone are not there any more.
	parts, gone []int
}

// news is what was read of a host.
type news struct {
	job
	// record is that of the first layout; nil if it has gone meanwhile.
	record *store.Endpoints
	read   map[int]store.Part
	bad    map[int]error
	// parsed are the endpoints that were read.
	parsed []Endpoint
	err    error
}

// read takes over what has changed. A record that can't be read does not delay the others.
func (f *peerReader) read(ctx context.Context, index, shards map[string]uint64) error {
	jobs, lost, err := f.lists(ctx, index, shards)
	if err != nil {
		return err
	}
	f.v.noteOwn(f.t, index[f.v.cluster.Host()] != 0, f.hasHead(f.v.cluster.Host()))
	var gone []string
	for host := range lost {
		if f.hasHead(host) || index[host] != 0 || host == f.v.cluster.Host() { // it has the other form now
			continue
		}
		found, is, err := f.resolve(ctx, host)
		switch {
		case err != nil:
			return err
		case !is:
			gone = append(gone, host)
		case found != nil:
			jobs = append(jobs, *found)
		}
	}
	var notKept error // the others are taken nevertheless
	for first := true; first || len(jobs) > 0; first = false {
		some := jobs[:min(len(jobs), batch)]
		if jobs = jobs[len(some):]; !first {
			gone = nil
		}
		err := f.step(ctx, some, gone, len(jobs) == 0)
		if err != nil && !errors.Is(err, errNotKept) {
			return err
		}
		notKept = errors.Join(notKept, err)
	}
	f.complete = true
	return notKept
}

// step reads some hosts' records, takes them over and keeps copies. known says that these were the
// last.
func (f *peerReader) step(ctx context.Context, jobs []job, gone []string, known bool) error {
	all := make([]news, len(jobs))
	var running sync.WaitGroup
	room := make(chan struct{}, readers)
	for i := range jobs {
		room <- struct{}{}
		running.Go(func() {
			all[i] = f.do(ctx, jobs[i])
			<-room
		})
	}
	running.Wait()
	fresh := all[:0]
	for _, n := range all {
		switch {
		case n.err != nil && errors.Is(n.err, store.ErrInvalid):
			f.unreadable[n.host] = n.err
			f.indexed[n.host] = n.index
		case n.err != nil:
			return n.err
		case n.head != nil || n.record != nil: // else it has just gone, and so will its version
			fresh = append(fresh, n)
			f.note(n)
		}
	}
	for _, host := range gone {
		f.forget(host)
	}
	f.v.take(f.t, f.w, fresh, gone)
	if known {
		// First the consumers, for they are waited for; the copies only matter after a restart.
		f.tell()
	}
	return f.copy(ctx, fresh, gone)
}

// do reads what a job says. Where a part is not there that the head names, the head is not the
// latest: the host has changed the form of its records, or withdraws its endpoints. Then it is
// looked for once more.
func (f *peerReader) do(ctx context.Context, j job) news {
	n := f.once(ctx, j)
	if n.err != nil || n.head == nil || len(n.read)+len(n.bad) == len(n.parts) {
		return n
	}
	heads, bad, err := f.v.cluster.Heads(ctx, f.t.id, nil, store.ShardOf(j.host))
	if err == nil {
		err = bad[j.host]
	}
	if err != nil {
		return news{job: j, err: err}
	}
	head, is := heads[j.host]
	if !is {
		return f.once(ctx, job{host: j.host})
	}
	known, _ := f.v.parts(f.t, j.host)
	j.head = &head
	j.parts, j.gone = head.Changed(known)
	return f.once(ctx, j)
}

// once reads what a job says.
func (f *peerReader) once(ctx context.Context, j job) news {
	n := news{job: j}
	if j.head == nil {
		r, err := f.v.cluster.EndpointsAt(ctx, f.t.id, j.host, j.index)
		if n.err = err; err == nil && r.Host != "" {
			n.record, n.parsed = &r, parse(r.Endpoints, 0)
		}
		return n
	}
	n.read, n.bad, n.err = f.v.cluster.Parts(ctx, f.t.id, j.host, *j.head, j.parts)
	for number, p := range n.read {
		n.parsed = append(n.parsed, parse(p.Endpoints, number)...)
	}
	return n
}

// note keeps what was read, so that it is not read again.
func (f *peerReader) note(n news) {
	delete(f.unreadable, n.host)
	if n.head == nil {
		f.indexed[n.host] = n.index
		if f.hasHead(n.host) { // its parts are not what is known of it now
			f.noteHead(n.host)
		}
		return
	}
	for _, number := range slices.Concat(n.parts, n.gone) {
		delete(f.bad, partID{n.host, number})
	}
	for number, err := range n.bad {
		f.bad[partID{n.host, number}] = badPart{n.head.Parts[number], err}
	}
}

func (f *peerReader) forget(host string) {
	delete(f.indexed, host)
	delete(f.unreadable, host)
	for id := range f.bad {
		if id.host == host {
			delete(f.bad, id)
		}
	}
}

// lists compares versions with those that were read last: what is to be read, and the hosts that
// are not where they were.
func (f *peerReader) lists(ctx context.Context, index, shards map[string]uint64) (jobs []job, lost map[string]bool, err error) {
	lost = map[string]bool{}
	jobs, err = f.listHeads(ctx, shards, lost)
	if err != nil {
		return nil, nil, err
	}
	for host, version := range index {
		if f.indexed[host] != version && host != f.v.cluster.Host() {
			jobs = append(jobs, job{host: host, index: version})
		}
	}
	for host := range f.indexed {
		if index[host] == 0 {
			delete(f.indexed, host)
			lost[host] = true
		}
	}
	if !f.complete { // also those that only this host's own store knew
		f.v.mu.Lock()
		for host := range f.t.peers {
			lost[host] = true
		}
		f.v.mu.Unlock()
	}
	return jobs, lost, nil
}

// listHeads lists the heads of the shards that have changed. Hosts that had a head and have none
// are lost.
func (f *peerReader) listHeads(ctx context.Context, shards map[string]uint64, lost map[string]bool) ([]job, error) {
	changed := map[string]bool{}
	for shard, version := range shards {
		if f.shards[shard] != version {
			changed[shard] = true
		}
	}
	for shard := range f.shards {
		if shards[shard] == 0 {
			changed[shard] = true
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	var some []string
	if whole := len(changed) > 1 && 2*len(changed) > len(shards); !whole {
		for shard := range changed {
			some = append(some, shard)
		}
	}
	heads, bad, err := f.v.cluster.Heads(ctx, f.t.id, f.knownHead, some...)
	if err != nil {
		return nil, err
	}
	for shard := range changed {
		for host := range f.heads[shard] {
			if _, is := heads[host]; !is && bad[host] == nil {
				delete(f.heads[shard], host)
				lost[host] = true
			}
		}
	}
	f.shards = shards
	return f.headJobs(heads, bad), nil
}

// headJobs says which parts are to be read.
func (f *peerReader) headJobs(heads map[string]store.Head, bad map[string]error) (jobs []job) {
	for host, err := range bad {
		f.noteHead(host)
		f.unreadable[host] = err
	}
	for host, head := range heads {
		if head.Version == f.knownHead(host) {
			continue
		}
		f.noteHead(host)
		if host == f.v.cluster.Host() {
			f.heads[store.ShardOf(host)][host] = head.Version
			continue
		}
		if j := f.headJob(host, head); j != nil {
			jobs = append(jobs, *j)
		} else {
			f.heads[store.ShardOf(host)][host] = head.Version
		}
	}
	return jobs
}

// headJob compares a head with what is known of its host; nil says that this is the same.
func (f *peerReader) headJob(host string, head store.Head) *job {
	known, parts := f.v.parts(f.t, host)
	j := &job{host: host, head: &head}
	j.parts, j.gone = head.Changed(known)
	j.parts = slices.DeleteFunc(j.parts, func(n int) bool { return f.bad[partID{host, n}].hash == head.Parts[n] })
	if f.unreadable[host] == nil && parts && len(j.parts)+len(j.gone) == 0 {
		return nil
	}
	return j
}

// resolve looks for a host that is not where it was: it may have changed the form of its records
// between two answers. It says what is to be read of it, if anything, and whether it has endpoints.
func (f *peerReader) resolve(ctx context.Context, host string) (*job, bool, error) {
	for range 2 { // before and after the other form: one change of form in between is seen
		heads, bad, err := f.v.cluster.Heads(ctx, f.t.id, nil, store.ShardOf(host))
		if err != nil {
			return nil, false, err
		}
		if head, is := heads[host]; is {
			f.noteHead(host)
			return f.headJob(host, head), true, nil
		}
		if bad[host] != nil {
			f.noteHead(host)
			f.unreadable[host] = bad[host]
			return nil, true, nil
		}
		r, err := f.v.cluster.EndpointsAt(ctx, f.t.id, host, 0)
		if errors.Is(err, store.ErrInvalid) || err == nil && r.Host != "" {
			return &job{host: host}, true, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	return nil, false, nil
}

// copy has this host's own store keep what was read.
func (f *peerReader) copy(ctx context.Context, fresh []news, gone []string) error {
	set := map[string]copied{}
	var unset []string
	for _, n := range fresh {
		whole := store.LocalPeerKey(f.t.id, n.host)
		switch {
		case n.head == nil:
			set[whole] = copied{n.record.Revision, withoutLabels(*n.record)}
			unset = append(unset, f.t.stored.below(store.LocalPartsOf(f.t.id, n.host))...)
			continue
		case f.t.stored.has(whole):
			unset = append(unset, whole)
		}
		for number, p := range n.read {
			set[store.LocalPartKey(f.t.id, n.host, number)] = copied{p.Hash, p.Value}
		}
		for _, number := range slices.Concat(n.parts, n.gone) {
			if _, there := n.read[number]; !there && n.bad[number] == nil {
				unset = append(unset, store.LocalPartKey(f.t.id, n.host, number))
			}
		}
	}
	for _, host := range gone {
		unset = append(append(unset, store.LocalPeerKey(f.t.id, host)), f.t.stored.below(store.LocalPartsOf(f.t.id, host))...)
	}
	return f.t.stored.update(ctx, set, unset, f.current())
}

// withoutLabels is a record without labels, which nothing here needs.
func withoutLabels(r store.Endpoints) store.Endpoints {
	r.Endpoints = slices.Clone(r.Endpoints)
	for i, e := range r.Endpoints {
		if e.Container != nil {
			c := *e.Container
			c.Labels = nil
			r.Endpoints[i].Container = &c
		}
	}
	return r
}
