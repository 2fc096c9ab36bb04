package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/store"
)

// answer is what a Watch returned.
type answer struct {
	lines []string
	index uint64
	err   error
}

// watch begins a Watch in a goroutine. A store may answer early with nothing
// changed; then it goes on until the entries differ from before.
func (k *kv) watch(ctx context.Context, prefix string, since uint64, before ...string) <-chan answer {
	ch := make(chan answer, 1)
	go func() {
		for {
			entries, index, err := k.Watch(ctx, k.root+prefix, since)
			lines := k.render(entries)
			if err != nil || !slices.Equal(lines, before) {
				ch <- answer{lines, index, err}
				return
			}
			since = index
		}
	}()
	return ch
}

// now is Watch with since 0.
func (k *kv) now(prefix string) ([]string, uint64) {
	k.t.Helper()
	entries, index, err := k.Watch(k.ctx, k.root+prefix, 0)
	if err != nil || index == 0 {
		k.t.Fatalf("Watch since 0: index %d, %v", index, err)
	}
	return k.render(entries), index
}

func testWatchFirst(t *testing.T, k *kv) {
	begin := time.Now()
	if lines, _ := k.now(""); len(lines) != 0 {
		t.Fatalf("an empty prefix has %q", lines)
	}
	k.must(k.put("a", "1"), k.put("b", "2"))
	if lines, _ := k.now(""); !slices.Equal(lines, []string{"a=1", "b=2"}) {
		t.Fatalf("got %q", lines)
	}
	k.must(k.remove("a"), k.remove("b"))
	if lines, _ := k.now(""); len(lines) != 0 {
		t.Fatalf("an emptied prefix has %q", lines)
	}
	if d := time.Since(begin); d > patience {
		t.Fatalf("Watch since 0 waited: %s", d)
	}
}

func testWatchWakes(t *testing.T, k *kv) {
	for i, c := range []struct {
		name   string
		before []string // values are "1"
		ops    func(*kv) []store.Op
		want   []string
	}{
		{"first-key", nil, func(k *kv) []store.Op { return []store.Op{k.set("w/a", "1", 0)} }, []string{"w/a=1"}},
		{"further-key", []string{"w/a"}, func(k *kv) []store.Op { return []store.Op{k.put("w/b/c", "1")} }, []string{"w/a=1", "w/b/c=1"}},
		{"set", []string{"w/a", "w/b"}, func(k *kv) []store.Op { return []store.Op{k.put("w/a", "2")} }, []string{"w/a=2", "w/b=1"}},
		{"delete", []string{"w/a", "w/b"}, func(k *kv) []store.Op { return []store.Op{k.del("w/a", k.version("w/a"))} }, []string{"w/b=1"}},
		{"remove-last", []string{"w/a"}, func(k *kv) []store.Op { return []store.Op{k.remove("w/a")} }, nil},
		{"transaction", []string{"w/a"}, func(k *kv) []store.Op {
			return []store.Op{k.put("v", "1"), k.put("w/c", "1"), k.remove("w/a"), k.put("w/b", "1")}
		}, []string{"w/b=1", "w/c=1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			here := *k
			here.t, here.root = t, fmt.Sprintf("%scase%d/", Root(t), i)
			for _, name := range c.before {
				here.must(here.put(name, "1"))
			}
			before, index := here.now("w/")
			ch := here.watch(here.ctx, "w/", index, before...)
			here.must(here.put("x", "1")) // a sibling: mostly after the watch has begun
			here.must(c.ops(&here)...)
			got := receive(t, "a woken watch", ch)
			if got.err != nil || !slices.Equal(got.lines, c.want) {
				t.Fatalf("got %q, %v, want %q", got.lines, got.err, c.want)
			}
		})
	}
}

// testWatchEmpty: while nothing is under the prefix, what others write elsewhere does not end the watch, and the first key does, however that comes.
func testWatchEmpty(t *testing.T, k *kv) {
	for _, before := range []string{"never had any", "had one"} {
		t.Run(before, func(t *testing.T) {
			here := *k
			here.t, here.root = t, Root(t)
			if before == "had one" {
				here.must(here.put("w/a", "1"))
				here.must(here.remove("w/a"))
			}
			lines, index := here.now("w/")
			if len(lines) != 0 {
				t.Fatalf("there is %q", lines)
			}
			ctx, cancel := context.WithCancel(here.ctx)
			defer cancel()
			answers := make(chan answer)
			go func() {
				defer close(answers)
				for since := index; ctx.Err() == nil; {
					entries, index, err := here.Watch(ctx, here.root+"w/", since)
					since = index
					select {
					case answers <- answer{here.render(entries), index, err}:
					case <-ctx.Done():
					}
				}
			}()
			for began, i := time.Now(), 0; time.Since(began) < 500*time.Millisecond; i++ {
				here.must(here.put("v/a", fmt.Sprint(i)), here.put("x", fmt.Sprint(i)))
				select {
				case got := <-answers:
					// One may be about what was removed before.
					if before == "never had any" || i > 20 {
						t.Fatalf("others' write %d ended the watch with %q, %v", i, got.lines, got.err)
					}
				default:
				}
			}
			here.must(here.put("w/b", "2"))
			if got := receive(t, "the watch", answers); got.err != nil || !slices.Equal(got.lines, []string{"w/b=2"}) {
				t.Fatalf("got %q, %v", got.lines, got.err)
			}
			here.must(here.remove("w/b"))
			if got := receive(t, "the watch", answers); got.err != nil || len(got.lines) != 0 {
				t.Fatalf("got %q, %v", got.lines, got.err)
			}
			here.must(here.put("w/b", "3"))
			if got := receive(t, "the watch", answers); got.err != nil || !slices.Equal(got.lines, []string{"w/b=3"}) {
				t.Fatalf("got %q, %v", got.lines, got.err)
			}
			cancel()
			for range answers {
			}
		})
	}
}

// testWatchMissed: what changed between two watches is not missed.
func testWatchMissed(t *testing.T, k *kv) {
	k.must(k.put("w/a", "0"))
	before, index := k.now("w/")
	for i := range 3000 / 100 {
		var ops []store.Op
		for j := range 100 {
			ops = append(ops, k.put(fmt.Sprintf("other/%d", j), fmt.Sprint(i)))
		}
		if i == 3 {
			ops = append(ops, k.put("w/a", "1"))
		}
		k.must(ops...)
	}
	got := receive(t, "a watch for an earlier change", k.watch(k.ctx, "w/", index, before...))
	if got.err != nil || !slices.Equal(got.lines, []string{"w/a=1"}) {
		t.Fatalf("got %q, %v", got.lines, got.err)
	}
}

// testWatchSibling: siblings' writes don't show, and don't end the watch for good.
func testWatchSibling(t *testing.T, k *kv) {
	k.must(k.put("w/a", "1"))
	before, index := k.now("w/")
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	ch := k.watch(ctx, "w/", index, before...)
	for i := range 20 {
		k.must(k.put("w", fmt.Sprint(i)), k.put("wa", fmt.Sprint(i)), k.put("v/a", fmt.Sprint(i)))
	}
	select {
	case got := <-ch:
		t.Fatalf("siblings changed the answer to %q, %v", got.lines, got.err)
	default:
	}
	k.must(k.put("w/a", "2"))
	if got := receive(t, "the watch", ch); got.err != nil || !slices.Equal(got.lines, []string{"w/a=2"}) {
		t.Fatalf("got %q, %v", got.lines, got.err)
	}
}

func testWatchMany(t *testing.T, k *kv) {
	const watchers = 50
	k.must(k.put("w/a", "1"))
	before, index := k.now("w/")
	var chs []<-chan answer
	for range watchers {
		chs = append(chs, k.watch(k.ctx, "w/", index, before...))
	}
	k.must(k.put("w/a", "2"))
	for i, ch := range chs {
		if got := receive(t, fmt.Sprintf("watcher %d", i), ch); got.err != nil || !slices.Equal(got.lines, []string{"w/a=2"}) {
			t.Fatalf("watcher %d got %q, %v", i, got.lines, got.err)
		}
	}
}

// testWatchFollows: a watcher that follows a writer ends with its last state,
// and its view never goes back.
func testWatchFollows(t *testing.T, k *kv) {
	const writes = 100
	ch := make(chan string, 1)
	go func() {
		var index uint64
		last := ""
		for {
			entries, next, err := k.Watch(k.ctx, k.root+"n", index)
			if err != nil {
				ch <- err.Error()
				return
			}
			index = next
			if len(entries) == 0 {
				continue
			}
			value := string(entries[0].Value)
			if value < last {
				ch <- fmt.Sprintf("went back from %s to %s", last, value)
				return
			}
			if last = value; value == fmt.Sprintf("%04d", writes-1) {
				ch <- ""
				return
			}
		}
	}()
	for i := range writes {
		k.must(k.put("n", fmt.Sprintf("%04d", i)))
	}
	if failure := receive(t, "the last write", ch); failure != "" {
		t.Fatal(failure)
	}
}

func testWatchCancel(t *testing.T, k *kv) {
	k.must(k.put("w/a", "1"))
	before, index := k.now("w/")
	for _, c := range []struct {
		name string
		ctx  func() (context.Context, context.CancelFunc)
		want error
	}{
		{"cancel", func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(k.ctx)
			time.AfterFunc(50*time.Millisecond, cancel)
			return ctx, cancel
		}, context.Canceled},
		{"deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(k.ctx, 50*time.Millisecond)
		}, context.DeadlineExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := c.ctx()
			defer cancel()
			ch := k.watch(ctx, "w/", index, before...)
			<-ctx.Done()
			ended := time.Now()
			got := receive(t, "the end of the watch", ch)
			wantError(t, got.err, c.want)
			wantError(t, got.err, store.ErrUnavailable)
			if d := time.Since(ended); d > patience/2 {
				t.Errorf("it ended only %s after its context", d)
			}
		})
	}
}
