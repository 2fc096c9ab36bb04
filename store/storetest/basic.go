package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

func testGet(t *testing.T, k *kv) {
	_, err := k.Get(k.ctx, k.key("a"))
	wantError(t, err, store.ErrNotFound)
	k.must(k.put("a", "1"), k.put("a/b", "2"))
	e, err := k.Get(k.ctx, k.key("a"))
	if err != nil || e.Key != k.key("a") || string(e.Value) != "1" || e.Version == 0 {
		t.Fatalf("Get = %+v, %v", e, err)
	}
	k.must(k.remove("a"))
	_, err = k.Get(k.ctx, k.key("a"))
	wantError(t, err, store.ErrNotFound)
	k.expect("a/b=2")
	k.must()
	k.must(k.remove("never-there"))
}

func testValues(t *testing.T, k *kv) {
	values := map[string][]byte{
		"empty":  {},
		"binary": {0, 255, '\n', 0xc3, 0x28},
		"large":  bytes.Repeat([]byte("x"), store.MaxValue),
	}
	for name, value := range values {
		k.must(store.Op{Kind: store.OpSet, Key: k.key(name), Value: value})
		e, err := k.Get(k.ctx, k.key(name))
		if err != nil || !bytes.Equal(e.Value, value) {
			t.Errorf("%s: got %d bytes and %v", name, len(e.Value), err)
		}
	}
	// What is returned belongs to the caller.
	e, _ := k.Get(k.ctx, k.key("binary"))
	e.Value[0] = 'x'
	if again, _ := k.Get(k.ctx, k.key("binary")); again.Value[0] != 0 {
		t.Error("writing to a returned value changed the store")
	}
}

func testList(t *testing.T, k *kv) {
	names := []string{"a", "a-b", "a/1", "a/10", "a/2", "a/b/c", "ab", "b", "ü/1"}
	for _, i := range []int{4, 0, 8, 2, 6, 1, 7, 3, 5} {
		k.must(k.put(names[i], "v"))
	}
	for _, c := range []struct {
		name, prefix string
		want         []string
	}{
		{"all", "", names},
		{"slash", "a/", []string{"a/1", "a/10", "a/2", "a/b/c"}},
		{"part-of-a-key", "a", []string{"a", "a-b", "a/1", "a/10", "a/2", "a/b/c", "ab"}},
		{"exact-key-and-longer", "a/1", []string{"a/1", "a/10"}},
		{"nothing", "zz", nil},
		{"utf8", "ü", []string{"ü/1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			entries, err := k.List(k.ctx, k.root+c.prefix)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range entries {
				got = append(got, strings.TrimPrefix(e.Key, k.root))
				if e.Version == 0 || string(e.Value) != "v" {
					t.Errorf("entry %+v", e)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if !sort.StringsAreSorted(got) {
				t.Errorf("not in order: %q", got)
			}
		})
	}
	everything, err := k.List(k.ctx, "")
	if err != nil || len(everything) < len(names) {
		t.Errorf("the empty prefix gave %d entries and %v", len(everything), err)
	}
}

// testConditions has the key "is" with a version v, and no key "none".
func testConditions(t *testing.T, k *kv) {
	for i, c := range []struct {
		name string
		op   func(k *kv, v uint64) store.Op
		want error
		then []string
	}{
		{"set-absent", func(k *kv, _ uint64) store.Op { return k.set("none", "new", 0) }, nil, []string{"is=old", "none=new"}},
		{"set-absent-but-there", func(k *kv, _ uint64) store.Op { return k.set("is", "new", 0) }, store.ErrConflict, []string{"is=old"}},
		{"set-version", func(k *kv, v uint64) store.Op { return k.set("is", "new", v) }, nil, []string{"is=new"}},
		{"set-other-version", func(k *kv, v uint64) store.Op { return k.set("is", "new", v-1) }, store.ErrConflict, []string{"is=old"}},
		{"set-later-version", func(k *kv, v uint64) store.Op { return k.set("is", "new", v+1000) }, store.ErrConflict, []string{"is=old"}},
		{"set-version-but-absent", func(k *kv, v uint64) store.Op { return k.set("none", "new", v) }, store.ErrConflict, []string{"is=old"}},
		{"delete-version", func(k *kv, v uint64) store.Op { return k.del("is", v) }, nil, nil},
		{"delete-other-version", func(k *kv, v uint64) store.Op { return k.del("is", v-1) }, store.ErrConflict, []string{"is=old"}},
		{"delete-absent", func(k *kv, v uint64) store.Op { return k.del("none", v) }, store.ErrConflict, []string{"is=old"}},
		{"delete-version-0", func(k *kv, _ uint64) store.Op { return k.del("is", 0) }, store.ErrInvalid, []string{"is=old"}},
		{"check-version", func(k *kv, v uint64) store.Op { return k.check("is", v) }, nil, []string{"is=old"}},
		{"check-other-version", func(k *kv, v uint64) store.Op { return k.check("is", v-1) }, store.ErrConflict, []string{"is=old"}},
		{"check-version-but-absent", func(k *kv, v uint64) store.Op { return k.check("none", v) }, store.ErrConflict, []string{"is=old"}},
		{"check-absent", func(k *kv, _ uint64) store.Op { return k.check("none", 0) }, nil, []string{"is=old"}},
		{"check-absent-but-there", func(k *kv, _ uint64) store.Op { return k.check("is", 0) }, store.ErrConflict, []string{"is=old"}},
		{"put-there", func(k *kv, _ uint64) store.Op { return k.put("is", "new") }, nil, []string{"is=new"}},
		{"put-absent", func(k *kv, _ uint64) store.Op { return k.put("none", "new") }, nil, []string{"is=old", "none=new"}},
		{"remove-there", func(k *kv, _ uint64) store.Op { return k.remove("is") }, nil, nil},
		{"remove-absent", func(k *kv, _ uint64) store.Op { return k.remove("none") }, nil, []string{"is=old"}},
		{"unknown-kind", func(k *kv, _ uint64) store.Op { return store.Op{Kind: 99, Key: k.key("is")} }, store.ErrInvalid, []string{"is=old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			here := *k
			here.t, here.root = t, fmt.Sprintf("%scase%d/", Root(t), i)
			// A write before, so that v-1 is not 0.
			here.must(here.put("is", "older"))
			here.must(here.put("is", "old"))
			err := here.Apply(here.ctx, c.op(&here, here.version("is")))
			if !errors.Is(err, c.want) {
				t.Fatalf("Apply = %v, want %v", err, c.want)
			}
			here.expect(c.then...)
		})
	}
}

func testAtomicity(t *testing.T, k *kv) {
	k.must(k.put("a", "1"), k.put("b", "1"))
	v := k.version("a")
	for _, c := range []struct {
		name    string
		failing store.Op
	}{
		{"set", k.set("b", "2", 0)},
		{"delete", k.del("b", v+1000)},
		{"check", k.check("b", 0)},
	} {
		all := []store.Op{k.set("a", "2", v), k.remove("b"), k.put("c", "2"), k.set("d", "2", 0)}
		for at := range len(all) {
			if at > 1 && c.failing.Kind != store.OpDelete {
				break // b is gone by then, so they would hold
			}
			ops := slices.Insert(slices.Clone(all), at, c.failing)
			wantError(t, k.Apply(k.ctx, ops...), store.ErrConflict)
			k.expect("a=1", "b=1")
			if now := k.version("a"); now != v {
				t.Fatalf("%s at %d: version of a went from %d to %d", c.name, at, v, now)
			}
		}
	}
}

func testSequence(_ *testing.T, k *kv) {
	k.must(k.put("a", "1"), k.put("b", "1"))
	v := k.version("a")
	k.must(k.check("a", v), k.put("a", "2"), k.remove("b"), k.set("b", "2", 0), k.put("c", "1"), k.remove("c"), k.check("c", 0))
	k.expect("a=2", "b=2")
}

func testIdentical(t *testing.T, k *kv) {
	k.must(k.set("a", "1", 0))
	v := k.version("a")
	k.must(k.set("a", "1", v))
	k.must(k.set("a", "1", v))
	k.must(k.put("a", "1"))
	if now := k.version("a"); now != v {
		t.Errorf("an identical write changed the version from %d to %d", v, now)
	}
	wantError(t, k.Apply(k.ctx, k.set("a", "1", 0)), store.ErrConflict)
	k.must(k.set("a", "2", v))
	wantError(t, k.Apply(k.ctx, k.set("a", "2", v)), store.ErrConflict)
}

func testVersions(t *testing.T, k *kv) {
	seen := map[uint64]bool{}
	for i := range 5 {
		k.must(k.put("a", fmt.Sprint(i)))
		v := k.version("a")
		if v == 0 || seen[v] {
			t.Fatalf("version %d is 0 or was seen before", v)
		}
		seen[v] = true
		k.must(k.put("other", fmt.Sprint(i)))
		if k.version("a") != v {
			t.Fatal("another key's write changed the version")
		}
		if i%2 == 0 {
			k.must(k.del("a", v))
		}
	}
}

func testLimits(t *testing.T, k *kv) {
	var puts, dels []store.Op
	for i := range store.MaxOps {
		puts = append(puts, k.put(fmt.Sprintf("k%03d", i), "v"))
	}
	wantError(t, k.Apply(k.ctx, append(puts, k.put("one-more", "v"))...), store.ErrInvalid)
	k.expect()
	k.must(puts...)
	v := k.version("k000")
	for _, op := range puts {
		dels = append(dels, store.Op{Kind: store.OpDelete, Key: op.Key, Version: v})
	}
	wantError(t, k.Apply(k.ctx, dels[:store.MaxOps/2+1]...), store.ErrInvalid)
	k.must(dels[:store.MaxOps/2]...)
	k.must(dels[store.MaxOps/2:]...)
	k.expect()

	big := strings.Repeat("x", store.MaxValue)
	wantError(t, k.Apply(k.ctx, k.put("big", big+"x")), store.ErrInvalid)
	wantError(t, k.Apply(k.ctx, k.put("a", big), k.put("b", big)), store.ErrInvalid)
	k.expect()
	// The largest that ValidOps lets pass passes, with keys that JSON escapes.
	ops := []store.Op{k.put("a", big)}
	for i := range 63 {
		ops = append(ops, k.put(fmt.Sprintf("%s%d", strings.Repeat("<", 200), i), strings.Repeat("y", 100)))
	}
	for store.ValidOps(ops) == nil {
		ops = append(ops, k.put(fmt.Sprintf("fill%d", len(ops)), strings.Repeat("z", 1000)))
	}
	k.must(ops[:len(ops)-1]...)
}

var badKeys = map[string]string{
	"leading-slash": "/a",
	"double-slash":  "a//b",
	"parent":        "a/../b",
	"parent-last":   "a/..",
	"self":          "a/./b",
	"self-first":    "./a",
	"newline":       "a\nb",
	"nul":           "a\x00b",
	"delete":        "a\x7fb",
	"control-c1":    "a\u0085b",
	"not-utf8":      "a\xffb",
	"space-first":   " a",
	"space-last":    "a ",
	"percent":       "a%20b",
	"too-long":      strings.Repeat("k", store.MaxKey+1),
}

func testBadKeys(t *testing.T, k *kv) {
	keys := map[string]string{"empty": "", "trailing-slash": "a/"}
	for name, key := range badKeys {
		keys[name] = key
		_, err := k.List(k.ctx, key)
		wantError(t, err, store.ErrInvalid)
		_, _, err = k.Watch(k.ctx, key, 0)
		wantError(t, err, store.ErrInvalid)
	}
	for name, key := range keys {
		t.Run(name, func(t *testing.T) {
			_, err := k.Get(k.ctx, key)
			wantError(t, err, store.ErrInvalid)
			for kind := store.OpSet; kind <= store.OpRemove; kind++ {
				wantError(t, k.Apply(k.ctx, k.put("good", "1"), store.Op{Kind: kind, Key: key, Version: 1}), store.ErrInvalid)
			}
			wantError(t, k.Announce(k.ctx, key, nil, ttl), store.ErrInvalid)
		})
	}
	k.expect()
}

func testOddKeys(t *testing.T, k *kv) {
	names := []string{
		"10.1.0.0_24", "fd00:1::_64", "a b", "a+b", "q?recurse", "f#x", "&=;", "..a", "a..", "...",
		`back\slash`, `"quote"`, "<tag>", "日本", "a /b", "+", "*", strings.Repeat("k", store.MaxKey-len(k.root)),
	}
	for _, name := range names {
		k.must(k.set(name, name, 0))
		e, err := k.Get(k.ctx, k.key(name))
		if err != nil || string(e.Value) != name {
			t.Errorf("%q: %q, %v", name, e.Value, err)
		}
		entries, err := k.List(k.ctx, k.key(name))
		if err != nil || len(entries) == 0 || entries[0].Key != k.key(name) {
			t.Errorf("%q listed as %q, %v", name, k.render(entries), err)
		}
		if err == nil && len(entries) > 0 {
			k.must(k.del(name, entries[0].Version))
		}
	}
	k.expect()
}

func testEndedContext(t *testing.T, k *kv) {
	ctx, cancel := context.WithCancel(k.ctx)
	cancel()
	_, getErr := k.Get(ctx, k.key("a"))
	_, listErr := k.List(ctx, k.root)
	_, _, watchErr := k.Watch(ctx, k.root, 0)
	for name, err := range map[string]error{
		"get": getErr, "list": listErr, "watch": watchErr,
		"apply": k.Apply(ctx, k.put("a", "1")), "announce": k.Announce(ctx, k.key("a"), nil, ttl),
	} {
		t.Run(name, func(t *testing.T) {
			wantError(t, err, store.ErrUnavailable)
			wantError(t, err, context.Canceled)
		})
	}
}
