package probe_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/probe"
	"github.com/socketplane/socketplane/internal/testenv"
)

// patience is for what is answered at once, on a machine of its own.
const patience = 20 * time.Second

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestEcho(t *testing.T) {
	testenv.Root(t)
	for name, to := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{100, 1501, 9000} {
				if err := probe.Echo(within(t, patience), netip.MustParseAddr(to), size); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
		})
	}
	// Loopback's MTU is 65536: the largest packet of all is not too large there, but a larger one is for IP.
	if err := probe.Echo(within(t, patience), netip.MustParseAddr("127.0.0.1"), 70000); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("70000 bytes: %v", err)
	}
}

func TestRefused(t *testing.T) {
	open, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(open.LocalAddr().String())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- probe.Refused(ctx, addr) }()
	// A host answers few of them: one question is not enough.
	for buf, n := make([]byte, 64), 0; n < 3; n++ {
		if err := open.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := open.ReadFrom(buf); err != nil {
			t.Fatalf("%d datagrams came: %v", n, err)
		}
	}
	cancel()
	if err := <-asked; err != nil {
		t.Errorf("open: %v", err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if err := probe.Refused(within(t, patience), addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v", err)
	}
}
