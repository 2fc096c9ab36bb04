package store_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestOwner: each word in a record is one owner, and only hosts have an id.
func TestOwner(t *testing.T) {
	for word, want := range map[string]struct {
		owner store.Owner
		host  string
	}{
		"network":          {owner: store.NetworkOwner()},
		"swarm":            {owner: store.SwarmOwner()},
		"0123456789abcdef": {owner: store.HostOwner("0123456789abcdef"), host: "0123456789abcdef"},
		"networks":         {owner: store.HostOwner("networks"), host: "networks"},
	} {
		got, err := store.ParseOwner(word)
		if err != nil || got != want.owner || got.String() != word {
			t.Errorf("%q is read as %v, %v", word, got, err)
		}
		if host, is := got.Host(); host != want.host || is != (want.host != "") {
			t.Errorf("%q has the host %q, %v", word, host, is)
		}
		var again store.Owner
		text, err := json.Marshal(got)
		if err == nil {
			err = json.Unmarshal(text, &again)
		}
		if err != nil || string(text) != `"`+word+`"` || again != got {
			t.Errorf("%q is written as %s, and read as %v: %v", word, text, again, err)
		}
	}
	later, err := store.ParseOwner("class:web")
	if _, host := later.Host(); err != nil || host || later.String() != "class:web" || later == store.HostOwner("class:web") {
		t.Errorf("an owner of a later agent is read as %v, %v", later, err)
	}
	for _, word := range []string{"", "a/alive", "..", "a\n", "100%"} {
		if got, err := store.ParseOwner(word); !errors.Is(err, store.ErrInvalid) || !got.IsZero() {
			t.Errorf("%q is read as %v, %v", word, got, err)
		}
	}
	if _, err := json.Marshal(store.Owner{}); err == nil {
		t.Error("nobody is written to a record")
	}
}

// FuzzOwner: whatever a record says is refused or kept as it is.
func FuzzOwner(f *testing.F) {
	for _, word := range []string{"", "network", "swarm", "swarm:x", "0123456789abcdef", "a/b"} {
		f.Add(word)
	}
	f.Fuzz(func(t *testing.T, word string) {
		o, err := store.ParseOwner(word)
		if err != nil {
			return
		}
		if o.String() != word || o.IsZero() {
			t.Errorf("%q is read as %q", word, o)
		}
		if id, is := o.Host(); is && (id != word || store.HostOwner(id) != o) {
			t.Errorf("%q is the host %q", word, id)
		}
	})
}
