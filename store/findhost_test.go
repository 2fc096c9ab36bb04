package store_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestFindHost: a name that two hosts have means neither of them.
func TestFindHost(t *testing.T) {
	m := store.Membership{Hosts: map[string]store.Host{}, Alive: map[string]bool{"aa11": true}}
	for id, name := range map[string]string{"aa11": "web1", "aa22": "web1", "bb11": "db", "cc11": "aa", "dd11": "", "ee11": "bb11"} {
		m.Hosts[id] = store.Host{ID: id, Name: name, VTEP: netip.MustParseAddr("192.0.2.1")}
	}
	for _, c := range []struct {
		ask, want string
		err       error
		says      []string
	}{
		{"db", "bb11", nil, nil},
		{"bb", "bb11", nil, nil},
		{"bb11", "bb11", nil, nil}, // an id goes before a name
		{"aa11", "aa11", nil, nil},
		{"aa", "cc11", nil, nil}, // a name goes before the beginning of ids
		{"dd", "dd11", nil, nil},
		{"web1", "", store.ErrAmbiguous, []string{"aa11", "aa22", "192.0.2.1", "up", "down", "give the id"}},
		{"a", "", store.ErrAmbiguous, []string{"aa11", "aa22", "give more"}},
		{"", "", store.ErrNotFound, nil},
		{"x", "", store.ErrNotFound, []string{"host ls"}},
	} {
		h, err := m.FindHost(c.ask)
		if h.ID != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q: %q, %v", c.ask, h.ID, err)
			continue
		}
		for _, text := range c.says {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%q: %q does not say %q", c.ask, err, text)
			}
		}
	}
}
