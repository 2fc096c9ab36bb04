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
				w.everything, w.pass = time.Hour, time.Hour // passes come by events
				h := w.all()[0]
				for i := range others {
					h.creates(ours(fmt.Sprint("net", i), subnet(fmt.Sprintf("10.%d.0.0/24", i+10))))
					h.runs(fmt.Sprint("c", i), fmt.Sprint("net", i))
					h.described(i + 1)
				}
				h.asks("at rest", nil, func() {})
				h.asks("one container's start", map[string]int{"container": 3, "endpoints of net0": 9}, func() {
					h.runs("one", "net0")
					h.described(others + 1)
				})
				h.asks("one container's end", map[string]int{"container": 1, "endpoints of net0": 9, "addresses": 9}, func() {
					h.stops("one")
					h.described(others)
				})
				h.asks("a network that comes and goes", map[string]int{"network": 4, "all networks": 3, "pools": 9}, func() {
					h.creates(ours("more", subnet("10.200.0.0/24")))
					h.removes("more")
				})
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

// asks holds that a change asks Docker for nothing but this, and at most so often: looks at what Docker may have forgotten ask for what they are not sure of.
func (h *host) asks(what string, most map[string]int, change func()) {
	h.w.Helper()
	settled := func() {
		for range 3 {
			h.w.passes(h)
			select {
			case <-time.After(2 * times.Look):
			case <-h.w.ctx.Done():
			}
		}
	}
	settled()
	h.docker.counted()
	change()
	settled()
	for question, n := range h.docker.counted() {
		if n > most[question] {
			h.w.Errorf("%s: Docker is asked %d times for %s, want %d at most", what, n, question, most[question])
		}
	}
}
