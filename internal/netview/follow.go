package netview

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/socketplane/socketplane/internal/retry"
	"github.com/socketplane/socketplane/store"
)

// peerReader follows one network's records of other hosts' endpoints for one watch. A host's
// endpoints have one of two forms: that of the first layout is found by the network's index, that
// of the second by its shards and heads. Both are always watched, as hosts change the form one
// after the other. It is for one goroutine.
type peerReader struct {
	v *View
	t *table
	w *watch
	// indexed are the versions of the hosts' records of the first layout that were read last,
	// shards those of the shards whose heads were listed last.
	indexed, shards map[string]uint64
	// heads are the hosts that have a head, by shard, as far as shards were listed, each with the version of
	// the head whose parts are all known; 0 if they are not.
	heads map[string]map[string]uint64
	// unreadable are hosts with a record that this agent can't read, because a newer agent wrote it
	// or another program changed it, and why; bad are parts that it can't read.
	unreadable map[string]error
	bad        map[partID]badPart
	// complete says that everything was read once since the last failure.
	complete bool
	tell     func() // that the peers are known
	trouble  retry.Trouble
}

type partID struct {
	host   string
	number int
}

// badPart is a part that can't be read: the hash that its head names, and why.
type badPart struct {
	hash string
	err  error
}

// watchPeers keeps the network's peers as the store has them, until ctx ends.
func (v *View) watchPeers(ctx context.Context, t *table, w *watch) {
	f := &peerReader{
		v: v, t: t, w: w, tell: sync.OnceFunc(func() { close(w.known) }),
		trouble: retry.Trouble{Logger: v.log, Level: slog.LevelWarn, Text: "records of other hosts' containers can't be read; what was known of these hosts stays"},
	}
	defer f.tell() // they never will be
	loop := v.newLoop("peers can't be read or written to this host's disk; the last known stay")
	f.reset()
	for ctx.Err() == nil {
		layout, changed := v.roster.Layout()
		if layout == 0 {
			select {
			case <-ctx.Done():
			case <-changed:
			}
			continue
		}
		if err := f.follow(ctx, layout, changed, loop); err != nil {
			f.reset() // read everything again when it works: the store may be another one
			loop.Fails(ctx, err, "network", t.id)
		}
	}
}

// reset forgets what was read. Parts whose hashes are known are not read again.
func (f *peerReader) reset() {
	f.indexed, f.shards, f.heads = map[string]uint64{}, map[string]uint64{}, map[string]map[string]uint64{}
	f.unreadable, f.bad, f.complete = map[string]error{}, map[partID]badPart{}, false
}

// hasHead says whether a host had a head when its shard was listed last.
func (f *peerReader) hasHead(host string) bool {
	_, has := f.heads[store.ShardOf(host)][host]
	return has
}

// knownHead is the version of a host's head whose parts are all known, 0 if there is none.
func (f *peerReader) knownHead(host string) uint64 { return f.heads[store.ShardOf(host)][host] }

// noteHead notes that a host has a head, of which something may not be known.
func (f *peerReader) noteHead(host string) {
	shard := store.ShardOf(host)
	if f.heads[shard] == nil {
		f.heads[shard] = map[string]uint64{}
	}
	f.heads[shard][host] = 0
}

// answer is what a watch says.
type answer struct {
	versions map[string]uint64
	err      error
}

// follow takes what the index and the shards say until ctx ends, or the layout changes, or
// something fails. The form of the layout has a query of its own for each network, if there are not
// too many; the other form, which hosts have for a moment only, shares one for all networks.
func (f *peerReader) follow(ctx context.Context, layout int, changed <-chan struct{}, loop *retry.Loop) error {
	var sources sync.WaitGroup
	defer sources.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	index := source(ctx, &sources, f.v.indexes, f.t.id, layout == store.FirstLayout)
	shards := source(ctx, &sources, f.v.shards, f.t.id, layout != store.FirstLayout)
	var now struct{ index, shards map[string]uint64 }
	var again <-chan time.Time // to write to this host's own store what it did not take
	pause := retry.Pause{First: retryFirst, Last: retryLast}
	for {
		var a answer
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			return nil
		case <-again:
			a.err = f.t.stored.update(ctx, nil, nil, f.current())
		case a = <-index:
			now.index = a.versions
		case a = <-shards:
			now.shards = a.versions
		}
		if a.versions != nil && now.index != nil && now.shards != nil {
			a.err = f.read(ctx, now.index, now.shards)
			f.trouble.Note(f.troubles(), "network", f.t.id)
		}
		if again = nil; errors.Is(a.err, errNotKept) && ctx.Err() == nil { // the others' changes are followed all the same
			loop.Note(a.err, "network", f.t.id)
			again = time.After(pause.Next(0))
			continue
		}
		if a.err != nil {
			return a.err
		}
		pause.Reset()
		loop.Works()
	}
}

// source hands the answers of a watch over, one after the other, until ctx ends or one is an error.
func source(ctx context.Context, running *sync.WaitGroup, of *indexes, network string, own bool) <-chan answer {
	answers := make(chan answer)
	running.Go(func() {
		wait, end := of.begin(network, own)
		defer end()
		for since := uint64(0); ; {
			versions, next, err := wait(ctx, since)
			select {
			case answers <- answer{versions, err}:
			case <-ctx.Done():
				return
			}
			if since = next; err != nil {
				return
			}
		}
	})
	return answers
}

// current says whether the watch is still the network's.
func (f *peerReader) current() func() bool {
	return func() bool {
		f.v.mu.Lock()
		defer f.v.mu.Unlock()
		return f.t.watch == f.w
	}
}

// troubles joins what can't be read.
func (f *peerReader) troubles() error {
	errs := slices.Collect(maps.Values(f.unreadable))
	for _, b := range f.bad {
		errs = append(errs, b.err)
	}
	return errors.Join(errs...)
}

// convertSpread is for how long the hosts of a cluster give their records another form, for each
// host. Each that does is read by all others: they do not do it at once.
const convertSpread = 200 * time.Millisecond

// followLayout follows the layout of the cluster's records, as the roster knows it. This host's
// endpoints are published in its form, after a while in which the other hosts do that, too.
func (v *View) followLayout(ctx context.Context) {
	for known := 0; ctx.Err() == nil; {
		layout, changed := v.roster.Layout()
		if known != 0 && layout != known { // else all is to be published anyway
			select {
			case <-v.convert: // of a change before this one
			default:
			}
			v.convert <- rand.N(time.Duration(1+len(v.Hosts())) * convertSpread)
		}
		known = layout
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// markAll notes that this host's endpoints on all networks are to be published.
func (v *View) markAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id := range v.tables {
		v.mark(id)
	}
}
