package store_test

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

func TestValidKey(t *testing.T) {
	for _, c := range []struct {
		name, key       string
		asKey, asPrefix bool // valid as a key, as a prefix
	}{
		{"record", "socketplane/v1/blocks/10.1.0.0_24/0", true, true},
		{"ipv6", "pools/fd00:1::_64", true, true},
		{"longest", strings.Repeat("k", store.MaxKey), true, true},
		{"empty", "", false, true},
		{"folder", "a/", false, true},
		{"parent-cut-off", "a/..", false, false},
		{"parent-like", "a/..b", true, true},
		{"too-long", strings.Repeat("k", store.MaxKey+1), false, false},
		{"slash", "/", false, false},
		{"inner-space", "a b", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := store.ValidKey(c.key); (err == nil) != c.asKey || err != nil && !errors.Is(err, store.ErrInvalid) {
				t.Errorf("ValidKey = %v", err)
			}
			if err := store.ValidPrefix(c.key); (err == nil) != c.asPrefix || err != nil && !errors.Is(err, store.ErrInvalid) {
				t.Errorf("ValidPrefix = %v", err)
			}
		})
	}
}

// FuzzValidKey: a valid key comes through a URL, and through the cleaning of
// its path, as it was.
func FuzzValidKey(f *testing.F) {
	for _, seed := range []string{"a/b", "a//b", "a/../b", ".", "a/.", " a", "a%2fb", "ü/\u0085", "a?b#c", `a\b`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if store.ValidKey(key) != nil {
			return
		}
		if err := store.ValidPrefix(key); err != nil {
			t.Errorf("a key, but no prefix: %v", err)
		}
		u := url.URL{Scheme: "http", Host: "consul", Path: "/v1/kv/" + key}
		back, err := url.Parse(u.String())
		if err != nil || path.Clean(back.Path) != "/v1/kv/"+key {
			t.Errorf("%q came back as %q, %v", key, back, err)
		}
	})
}

func TestValidOps(t *testing.T) {
	many := func(n int, op store.Op) (ops []store.Op) {
		for range n {
			ops = append(ops, op)
		}
		return ops
	}
	put := store.Op{Kind: store.OpPut, Key: "k", Value: []byte("v")}
	del := store.Op{Kind: store.OpDelete, Key: "k", Version: 1}
	big := store.Op{Kind: store.OpPut, Key: "k", Value: make([]byte, store.MaxValue)}
	for _, c := range []struct {
		name string
		ops  []store.Op
		want error
	}{
		{"none", nil, nil},
		{"as-many-as-allowed", many(store.MaxOps, put), nil},
		{"one-too-many", many(store.MaxOps+1, put), store.ErrInvalid},
		{"deletes-count-twice", many(store.MaxOps/2, del), nil},
		{"one-delete-too-many", many(store.MaxOps/2+1, del), store.ErrInvalid},
		{"largest-value", many(1, big), nil},
		{"two-of-the-largest", many(2, big), store.ErrInvalid},
		{"longest-keys", many(store.MaxOps, store.Op{Kind: store.OpCheck, Key: strings.Repeat("<", store.MaxKey)}), nil},
		{"delete-of-version-0", []store.Op{{Kind: store.OpDelete, Key: "k"}}, store.ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := store.ValidOps(c.ops); !errors.Is(err, c.want) {
				t.Errorf("ValidOps = %v, want %v", err, c.want)
			}
		})
	}
}
