package mirror_test

import (
	"fmt"
	"testing"
	"time"
)

// TestDockerIsAskedForWhatItTellsOf: the start of one container, and a network that is made and removed, cost the same questions whatever else is on the host,
// none of which is for everything; and while nothing happens nothing is asked.
func TestDockerIsAskedForWhatItTellsOf(t *testing.T) {
	for _, others := range []int{2, 20} {
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			in(t, 1, func(w *world) {
				w.everything = time.Hour
				h := w.all()[0]
				for i := range others {
					h.creates(ours(fmt.Sprint("net", i), subnet(fmt.Sprintf("10.%d.0.0/24", i+10))))
					h.runs(fmt.Sprint("c", i), fmt.Sprint("net", i))
					h.described(i + 1)
				}
				w.passes(h)
				h.settled()
				h.docker.counted()
				w.passes(h)
				if got := h.docker.counted(); len(got) != 0 {
					t.Errorf("while nothing happens, Docker is asked for %v", got)
				}
				h.runs("one", "net0")
				h.described(others + 1)
				h.settled()
				got := h.docker.counted()
				if got["all containers"]+got["all networks"]+got["pools"]+got["addresses"] > 0 || got["container"] == 0 || got["container"] > 2 || got["endpoints"] > 3 {
					t.Errorf("for one container's start Docker is asked for %v", got)
				}
				h.stops("one")
				h.described(others)
				h.settled()
				got = h.docker.counted()
				if got["all containers"]+got["all networks"]+got["pools"] > 0 || got["endpoints"] > 3 || got["container"] > 1 {
					t.Errorf("for one container's end Docker is asked for %v", got)
				}
				h.creates(ours("more", subnet("10.200.0.0/24")))
				h.removes("more")
				h.settled()
				got = h.docker.counted()
				if got["all containers"] > 0 || got["all networks"] > 3 || got["network"] == 0 || got["network"] > 4 || got["endpoints"] > 2 {
					t.Errorf("for a network that comes and goes Docker is asked for %v", got)
				}
			})
		})
	}
}

// described waits until so many endpoints of the host are known with their containers.
func (h *host) described(want int) {
	h.w.Helper()
	h.w.eventually(func() string {
		known := 0
		for _, c := range h.driver.Described() {
			if c != nil {
				known++
			}
		}
		if known != want {
			return fmt.Sprintf("%d endpoints are described, want %d", known, want)
		}
		return ""
	})
}

// settled waits for the looks at what Docker may have forgotten, two of which follow each change.
func (h *host) settled() {
	h.w.Helper()
	for range 3 {
		h.w.passes(h)
		select {
		case <-time.After(2 * times.Look):
		case <-h.w.ctx.Done():
		}
	}
}
