package driver_test

import (
	"testing"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/netopt"
	"github.com/socketplane/socketplane/store"
)

// TestEachOptionOfNetworks: the driver takes each option with each value that its row accepts, and refuses it with another one; a value that contradicts the
// network's subnet, which has IPv4 only, is refused, too.
func TestEachOptionOfNetworks(t *testing.T) {
	w := newWorld(t)
	a := w.host("a")
	for _, row := range netopt.Networks() {
		for _, value := range row.Samples {
			asked, err := netopt.ParseNetwork(map[string]string{row.Key: value})
			w.must(err)
			if asked.CheckFamilies(true, false) != nil {
				w.wants(a.create("n1", space, row.Key, value), driver.ErrBadRequest, row.Key)
				continue
			}
			w.must(a.create("n1", space, row.Key, value))
			w.must(a.remove("n1"))
			w.clean(a)
		}
		if row.Check("%no such value/") != nil {
			w.wants(a.create("n1", space, row.Key, "%no such value/"), driver.ErrBadRequest, row.Key)
		}
	}
	w.wants(a.create("n1", space, "socketplane.unheard-of", "1"), driver.ErrBadRequest, "socketplane.unheard-of")
}

// TestOptionsOfTwoHosts: a second host that creates a network by hand may ask for what the rule of each option's row allows, and for no more.
func TestOptionsOfTwoHosts(t *testing.T) {
	w := newWorld(t)
	a, b := w.host("a"), w.host("b")
	given := func(key, value string) []string {
		if value == "" {
			return nil
		}
		return []string{key, value}
	}
	refused := 0
	for _, row := range netopt.Networks() {
		if row.Merge == netopt.Implied || row.Key == netopt.KeyName { // another value is refused on one host, or names another network
			continue
		}
		values := append([]string{""}, row.Samples...)
		for _, made := range values {
			w.must(a.create("n1", space, given(row.Key, made)...))
			for _, asked := range values {
				err := b.create("n2", space, given(row.Key, asked)...)
				if row.Merge == netopt.Same && asked != "" && asked != made {
					refused++
					w.wants(err, store.ErrMismatch, "-o ", asked, "leave it out here")
					continue
				}
				w.must(err)
				w.must(b.remove("n2"))
			}
			w.must(a.remove("n1"))
			w.clean(a, b)
		}
	}
	if refused == 0 {
		t.Error("nothing was refused, so this test proves nothing")
	}
}
