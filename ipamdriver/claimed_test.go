package ipamdriver_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// testOneRecord: a claim of many addresses costs the journal a record for each block, and a new process knows them all.
func testOneRecord(w *world) {
	for _, subnet := range []string{"10.1.0.0/16", "fd00:1::/64"} {
		a := w.host("a"+subnet[:2], spares)
		id := a.pool(subnet, "")
		first, err := a.container(id, "")
		w.must(err)
		blocks, err := a.local.List(w.ctx, store.LocalBlocks)
		w.must(err)
		own, err := a.local.List(w.ctx, store.LocalAddresses)
		w.must(err)
		if len(blocks) != 1 || len(own) != 1 {
			w.Fatalf("%s: %d records of blocks and %d of addresses, want 1 of each: %q", subnet, len(blocks), len(own), dump(w, a.local.KV))
		}
		held, _, spare, err := a.Counts(w.ctx)
		w.must(err)
		a.again(spares)
		if heldNow, _, spareNow, err := a.Counts(w.ctx); held != 1 || heldNow != held || spareNow != spare || spare < 32 || err != nil {
			w.Fatalf("%s: %d handed out and %d spare, then %d and %d, %v", subnet, held, spare, heldNow, spareNow, err)
		}
		given := []string{first}
		for range spare {
			address, err := a.container(id, "")
			w.must(err)
			if slices.Contains(given, address) {
				w.Fatalf("%s was given twice", address)
			}
			given = append(given, address)
		}
		for _, address := range given {
			w.must(a.release(id, address))
		}
		w.must(a.releasePool(id))
		w.clean(a)
	}
}

// testGivenBack: what was given back is in no record any more, whatever else its block has; what the journal did not take in stays.
func testGivenBack(w *world) {
	a := w.host("a", spares)
	id := a.pool("10.1.0.0/20", "")
	first, err := a.container(id, "")
	w.must(err)
	_, _, spare, err := a.Counts(w.ctx)
	w.must(err)
	other := w.host("b", spares)
	other.pool(id, "")
	// It takes a spare of this host by name: the one behind the first.
	wanted := nextOf(first)
	a.run()
	_, err = other.container(id, wanted)
	w.must(err)
	a.again(spares)
	if _, _, now, err := a.Counts(w.ctx); err != nil || now != spare-1 {
		w.Fatalf("%d spare, then %d, %v", spare, now, err)
	}
	_, err = a.container(id, wanted)
	w.wants(err, store.ErrTaken)
	a.local.set(true, false)
	if err := a.releasePool(id); err == nil {
		w.Fatal("a pool is released without a journal")
	}
	a.local.set(false, false)
	a.again(spares)
	if held, _, now, err := a.Counts(w.ctx); held != 1 || now != spare-1 || err != nil {
		w.Fatalf("%d handed out and %d spare, %v", held, now, err)
	}
}

// nextOf is the address behind one with a prefix length.
func nextOf(address string) string {
	addr, _, _ := strings.Cut(address, "/")
	head, last := addr[:strings.LastIndexByte(addr, '.')+1], 0
	_, _ = fmt.Sscan(addr[len(head):], &last)
	return head + fmt.Sprint(last+1)
}

func TestClaimed(t *testing.T) {
	both(t, map[string]func(*world){"one-record": testOneRecord, "given-back": testGivenBack})
}

// listed is a journal that can be read only.
type listed []store.Entry

func (l listed) Apply(context.Context, ...store.Op) error { return store.ErrUnavailable }

func (l listed) List(_ context.Context, prefix string) (out []store.Entry, _ error) {
	for _, e := range l {
		if strings.HasPrefix(e.Key, prefix) {
			out = append(out, e)
		}
	}
	return out, nil
}

// counts reads a journal of one record.
func counts(t testing.TB, key, value string) (held, resting, spare int, err error) {
	kv := listed{}
	d := ipamdriver.New(store.NewCluster(nil, "h"), nil, ipamdriver.Options{Journal: append(kv, store.Entry{Key: key, Value: []byte(value)})})
	return d.Counts(t.Context())
}

func TestJournalRecords(t *testing.T) {
	const block, address = store.LocalBlocks + "10.1.0.0_24/10.1.0.64", store.LocalAddresses + "10.1.0.0_24/10.1.0.65"
	for _, c := range []struct {
		name, key, value     string
		held, resting, spare int
		err                  string
	}{
		{"all", block, `{"schema":1,"pool":"10.1.0.0/24","block":"10.1.0.64/26","addrs":"ffffffffffffffff"}`, 0, 0, 64, ""},
		{"first-and-last", block, `{"schema":1,"pool":"10.1.0.0/24","block":"10.1.0.64/26","addrs":"8000000000000001"}`, 0, 0, 2, ""},
		{"beyond-a-small-pool", block, `{"schema":1,"pool":"10.1.0.64/30","block":"10.1.0.64/30","addrs":"ff"}`, 0, 0, 4, ""},
		{"not-hexadecimal", block, `{"schema":1,"pool":"10.1.0.0/24","block":"10.1.0.64/26","addrs":"xyz"}`, 0, 0, 0, "not readable"},
		{"no-block", block, `{"schema":1,"pool":"10.1.0.0/24","addrs":"1"}`, 0, 0, 0, "of no block"},
		{"no-pool", block, `{"schema":1,"block":"10.1.0.64/26","addrs":"1"}`, 0, 0, 0, "of no block"},
		{"of-two-blocks", block, `{"schema":1,"pool":"10.1.0.0/24","block":"10.1.0.0/25","addrs":"1"}`, 0, 0, 0, "of no block"},
		{"elsewhere", block, `{"schema":1,"pool":"10.2.0.0/24","block":"10.1.0.64/26","addrs":"1"}`, 0, 0, 0, "of no block"},
		{"newer", block, `{"schema":99}`, 0, 0, 0, "upgrade socketplane"},
		{"handed-out", address, `{"schema":1,"mac":"02:00:00:00:00:01","since":1}`, 1, 0, 0, ""},
		{"resting", address, `{"schema":1,"state":"resting","since":9000000000000}`, 0, 1, 0, ""},
		{"rested", address, `{"schema":1,"state":"resting","since":1}`, 0, 0, 1, ""},
		{"unknown-key", store.LocalAddresses + "10.1.0.0_24/10.2.0.65", `{"schema":1}`, 0, 0, 0, "not the key of an address"},
	} {
		t.Run(c.name, func(t *testing.T) {
			held, resting, spare, err := counts(t, c.key, c.value)
			if held != c.held || resting != c.resting || spare != c.spare {
				t.Errorf("%d handed out, %d resting, %d spare, want %d, %d, %d", held, resting, spare, c.held, c.resting, c.spare)
			}
			if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !errors.Is(err, store.ErrInvalid)) {
				t.Errorf("error is %v, want one with %q", err, c.err)
			}
		})
	}
}

// FuzzJournalRecords: what a journal holds is either read or refused.
func FuzzJournalRecords(f *testing.F) {
	f.Add("blocks/10.1.0.0_24/10.1.0.64", `{"schema":1,"pool":"10.1.0.0/24","block":"10.1.0.64/26","addrs":"ffffffffffffffff"}`)
	f.Add("blocks/fd00::_64/fd00::", `{"schema":1,"pool":"fd00::/64","block":"fd00::/122","addrs":"1"}`)
	f.Add("addresses/10.1.0.0_24/10.1.0.65", `{"schema":1,"state":"resting","since":-1}`)
	f.Add("addresses/fd00::_64/fd00::9", `{"schema":1,"mac":"02:00:00:00:00:01"}`)
	f.Fuzz(func(t *testing.T, key, value string) {
		if _, _, spare, err := counts(t, store.Root+"local/"+key, value); err != nil && !errors.Is(err, store.ErrInvalid) || spare > 64 {
			t.Errorf("%q in %q: %d spare, %v", value, key, spare, err)
		}
	})
}
