package store_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/socketplane/socketplane/store"
)

// oddNames are names that Docker takes for a network, and that can't be a part of a key as they are.
var oddNames = []string{
	"load 100%", "a//b", "x/../y", "..", ".", "/", "/a", "a/", " a", "a ", strings.Repeat("n", 600), "a\x00b", "a\nb", "a\u0085b",
	"%2f", "./a", "a/.", strings.Repeat("é", 300), "\xff",
}

// TestNameKeys: names that were keys before are keys still; every other one has a key too, of its own.
func TestNameKeys(t *testing.T) {
	for _, name := range []string{"web", "a_b", "shop_default", "a.b-c", "a b", "a/b", "ü", "a..b", "names-hashed", strings.Repeat("n", 128)} {
		if got, want := store.NameKey(name), store.Root+"names/"+name; got != want {
			t.Errorf("the key of %q is %q, clusters have %q", name, got, want)
		}
	}
	seen := map[string]string{}
	for _, name := range oddNames {
		key := store.NameKey(name)
		if err := store.ValidKey(key); err != nil {
			t.Errorf("%.40q: %v", name, err)
		}
		if other, is := seen[key]; is {
			t.Errorf("%.40q and %.40q have one key", name, other)
		}
		seen[key] = name
	}
}

// FuzzNameKey: whatever a user types, the key is valid, and tells the name from any other.
func FuzzNameKey(f *testing.F) {
	for _, name := range oddNames {
		f.Add(name, "web")
	}
	f.Add("a", "../names-hashed/ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, name := range []string{a, b} {
			if err := store.ValidKey(store.NameKey(name)); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
		if a != b && store.NameKey(a) == store.NameKey(b) {
			t.Errorf("%q and %q have one key", a, b)
		}
	})
}

// testOddNames: a network of any name is declared, found, refused a second time, and leaves nothing.
func testOddNames(w *world) {
	for i, name := range oddNames {
		if !utf8.ValidString(name) {
			continue // Docker's JSON has no such text
		}
		a, b := w.host("a"), w.host("b")
		n, err := a.Bind(w.ctx, binding(fmt.Sprint("d", i), "", poolA))
		w.must(err)
		_, err = a.Declare(w.ctx, n.ID, name, store.Declaration{})
		w.must(err)
		if got, err := b.NetworkNamed(w.ctx, name); err != nil || got.ID != n.ID {
			w.Errorf("%.40q is found as %v, %v", name, got.ID, err)
		}
		_, err = b.Create(w.ctx, store.NewNetwork{Name: name, Pools: []netip.Prefix{poolB}})
		w.wants(err, store.ErrNameTaken)
		garbage, err := a.Garbage(w.ctx)
		w.must(err)
		for _, g := range garbage {
			if g.Kind == "name" {
				w.Errorf("%.40q: garbage %+v", name, g)
			}
		}
		w.must(a.Release(w.ctx, n.ID, fmt.Sprint("d", i)))
		w.empty()
	}
}
