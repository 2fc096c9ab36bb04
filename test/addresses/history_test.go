package addresses

import (
	"fmt"
	"sync"
	"testing"
)

// history checks that no address has two holders at a time. A hold is noted after its request was answered, and its
// end before the release is sent: two that overlap here did so in truth.
type history struct {
	mu     sync.Mutex
	holder map[string]string // address to holder
	wrong  []string
	holds  int
}

func newHistory() *history { return &history{holder: map[string]string{}} }

// begin notes that a holder was given an address.
func (h *history) begin(address, holder string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds++
	if has := h.holder[address]; has != "" {
		h.wrong = append(h.wrong, fmt.Sprintf("%s was given to %s, but %s has it", address, holder, has))
	}
	h.holder[address] = holder
}

// end notes that a holder lets go of an address.
func (h *history) end(address, holder string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if has := h.holder[address]; has != holder {
		h.wrong = append(h.wrong, fmt.Sprintf("%s lets go of %s, but %q has it", holder, address, has))
		return
	}
	delete(h.holder, address)
}

func (h *history) problems() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.wrong...)
}

// settled compares, when nothing happens any more, what containers have, what hosts' journals have (address to state, "" is
// handed out), and what the cluster has (address to host).
func settled(containers map[string]string, journals map[string]map[string]string, claims map[string]string) (wrong []string) {
	known := map[string]string{}
	for host, journal := range journals {
		for address, state := range journal {
			if other, twice := known[address]; twice {
				wrong = append(wrong, fmt.Sprintf("%s is in the journals of %s and %s", address, host, other))
			}
			known[address] = host
			if claims[address] != host {
				wrong = append(wrong, fmt.Sprintf("%s is in the journal of %s (%q), in the cluster it belongs to %q", address, host, state, claims[address]))
			}
			if state == "" && containers[address] != host {
				wrong = append(wrong, fmt.Sprintf("%s is handed out on %s, but no container has it", address, host))
			}
		}
	}
	for address, host := range containers {
		if state, is := journals[host][address]; !is || state != "" {
			wrong = append(wrong, fmt.Sprintf("a container of %s has %s, which its journal does not know as handed out", host, address))
		}
	}
	for address, host := range claims {
		if known[address] != host {
			wrong = append(wrong, fmt.Sprintf("%s belongs to %s in the cluster, but its journal does not know it", address, host))
		}
	}
	return wrong
}

// TestHistoryChecker: what is wrong is found, and nothing else.
func TestHistoryChecker(t *testing.T) {
	type step struct {
		begin        bool
		addr, holder string
	}
	for name, c := range map[string]struct {
		steps []step
		wrong int
	}{
		"one-after-the-other": {[]step{{true, "x", "a"}, {false, "x", "a"}, {true, "x", "b"}}, 0},
		"two-addresses":       {[]step{{true, "x", "a"}, {true, "y", "b"}, {true, "z", "a"}}, 0},
		"two-hosts-at-once":   {[]step{{true, "x", "a"}, {true, "x", "b"}}, 1},
		"two-of-one-host":     {[]step{{true, "x", "a/1"}, {true, "x", "a/2"}}, 1},
		"again-before-end":    {[]step{{true, "x", "a"}, {false, "x", "a"}, {true, "x", "b"}, {true, "x", "a"}}, 1},
		"ends-without":        {[]step{{false, "x", "a"}}, 1},
		"ends-anothers":       {[]step{{true, "x", "a"}, {false, "x", "b"}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			for _, s := range c.steps {
				if s.begin {
					h.begin(s.addr, s.holder)
				} else {
					h.end(s.addr, s.holder)
				}
			}
			if got := h.problems(); len(got) != c.wrong {
				t.Errorf("problems are %q, want %d", got, c.wrong)
			}
		})
	}
}

// TestSettledChecker: leaks and losses are found.
func TestSettledChecker(t *testing.T) {
	type m = map[string]string
	for name, c := range map[string]struct {
		containers m
		journals   map[string]m
		claims     m
		wrong      int
	}{
		"right":               {m{"x": "a"}, map[string]m{"a": {"x": "", "y": "spare"}, "b": {"z": "resting"}}, m{"x": "a", "y": "a", "z": "b"}, 0},
		"leaked-claim":        {m{}, map[string]m{"a": {}}, m{"x": "a"}, 1},
		"lost-claim":          {m{"x": "a"}, map[string]m{"a": {"x": ""}}, m{}, 1},
		"anothers-claim":      {m{"x": "a"}, map[string]m{"a": {"x": ""}}, m{"x": "b"}, 2},
		"lost-record":         {m{"x": "a"}, map[string]m{"a": {}}, m{"x": "a"}, 2},
		"spare-in-use":        {m{"x": "a"}, map[string]m{"a": {"x": "spare"}}, m{"x": "a"}, 1},
		"handed-out-to-none":  {m{}, map[string]m{"a": {"x": ""}}, m{"x": "a"}, 1},
		"spare-without-claim": {m{}, map[string]m{"a": {"x": "spare"}}, m{}, 1},
		"two-journals":        {m{}, map[string]m{"a": {"x": "spare"}, "b": {"x": "spare"}}, m{"x": "a"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if got := settled(c.containers, c.journals, c.claims); len(got) < c.wrong || (c.wrong == 0) != (len(got) == 0) {
				t.Errorf("problems are %q, want %d", got, c.wrong)
			}
		})
	}
}
