package driver

import (
	"testing"

	"github.com/socketplane/socketplane/internal/dataplane"
)

// TestPorts: numbers go round, skip those in use, and are refused when there are none.
func TestPorts(t *testing.T) {
	d := &Driver{ports: map[uint32]bool{1: true}, lastPort: dataplane.MaxPort - 1}
	for _, want := range []uint32{dataplane.MaxPort, 2, 3} {
		if got, err := d.takePort(); err != nil || got != want {
			t.Fatalf("port is %d (%v), want %d", got, err, want)
		}
	}
	for port := range uint32(dataplane.MaxPort) {
		d.ports[port+1] = true
	}
	if got, err := d.takePort(); err == nil {
		t.Fatalf("port %d is given though all are in use", got)
	}
	d.freePort(17)
	if got, err := d.takePort(); err != nil || got != 17 {
		t.Fatalf("port is %d (%v), want the only free one", got, err)
	}
}
