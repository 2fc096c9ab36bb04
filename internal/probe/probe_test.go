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

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func TestEcho(t *testing.T) {
	testenv.Root(t)
	for name, to := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{100, 1501, 9000} {
				if err := probe.Echo(soon(t), netip.MustParseAddr(to), size); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
		})
	}
	// Loopback's MTU is 65536: the largest packet of all is not too large there, but a larger one is for IP.
	if err := probe.Echo(soon(t), netip.MustParseAddr("127.0.0.1"), 70000); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("70000 bytes: %v", err)
	}
}

func TestRefused(t *testing.T) {
	open, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(open.LocalAddr().String())
	if err := probe.Refused(soon(t), addr); err != nil {
		t.Errorf("open: %v", err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if err := probe.Refused(soon(t), addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("closed: %v", err)
	}
}
