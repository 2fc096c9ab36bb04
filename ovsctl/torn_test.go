package ovsctl

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/internal/testenv/ovs"
)

// TestPortThatIsGoneIsNotMended: the tables of our copy are read one after the other. Who removes a port meanwhile leaves its interface out of
// what we read, and its port in: the change that is made of it must not pass for one that has mended the port.
func TestPortThatIsGoneIsNotMended(t *testing.T) {
	sw := ovs.Start(t)
	s, err := Connect(t.Context(), Options{Endpoint: sw.DB, Bridge: "socketplane0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	port := Port{Name: "p1", OFPort: 1, Type: "internal"}
	if err := errors.Join(s.EnsureBridge(t.Context(), BridgeSpec{Datapath: DatapathNetdev}), s.EnsurePort(t.Context(), port)); err != nil {
		t.Fatal(err)
	}
	torn, err := s.view()
	if err != nil {
		t.Fatal(err)
	}
	torn.whole()
	sw.Vsctl("del-port", "socketplane0", "p1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := testenv.Poll(ctx, 5*time.Millisecond, func() bool { return len(s.Ports()) == 0 }); err != nil {
		t.Fatal("our copy still has the port")
	}
	torn.all.interfaces = nil
	ops, changes, err := planPorts(torn, []Port{port}, nil)
	if err != nil || changes.Mended != 1 {
		t.Fatalf("planned are %+v, %v, so this test proves nothing", changes, err)
	}
	n, err := s.current()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.transact(ctx, n, ops...); !errors.Is(err, errConflict) {
		t.Errorf("the change ended with %v, want a conflict", err)
	}
}
