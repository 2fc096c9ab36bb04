package onehost

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/internal/bare"
	"github.com/socketplane/socketplane/test/internal/proxy"
)

// TestSocketsThatCantBeMade: what is in the place of a socket, or of its directory, keeps only that socket from being served; the others say so, and it
// is served when that is gone.
func TestSocketsThatCantBeMade(t *testing.T) {
	h := newHost(t)
	h.write("plugin.sock", "no socket")
	taken, err := proxy.ListenIn(h.NetNS(), bare.MetricsAddr)
	if err != nil {
		t.Fatal(err)
	}
	h.begin()
	ctx := h.Deadline(patience)
	h.Eventually("the command line is told of Docker's socket", func() error {
		err := h.admin().Ready(ctx)
		if err == nil || !strings.Contains(err.Error(), "plugin.sock is there and is no socket") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	info, err := h.admin().Info(ctx)
	if err != nil || !strings.Contains(info.Trouble, "remove it") || !strings.Contains(info.Trouble, "--metrics-addr") {
		t.Errorf("info: %q, %v", info.Trouble, err)
	}
	h.remove("plugin.sock")
	_ = taken.Close()
	h.ready()
	if _, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/24", ""); err != nil {
		t.Fatal(err)
	}
	h.stop()

	h.write("admin.sock", "no socket")
	h.begin()
	h.Eventually("/readyz says what the command line can't", func() error {
		status, text, err := h.Get("/readyz")
		if err != nil || status != 503 || !strings.Contains(text, "admin.sock is there and is no socket") {
			return fmt.Errorf("%d %s %w", status, text, err)
		}
		return nil
	})
	if _, err := h.Docker().Network(ctx, id("net", 2), "10.2.0.0/24", ""); err != nil {
		t.Errorf("networks need the command line's socket: %v", err)
	}
	h.remove("admin.sock")
	h.ready()

	// An agent whose sockets another one serves is of no use to anybody.
	second := *h
	second.flags = append(second.flags, "--state-dir", h.Path("other"))
	second.begin()
	h.Eventually("the second agent ends", func() error {
		if second.proc.Running() {
			return errNotYet
		}
		return nil
	})
	if !strings.Contains(h.log(), "another agent serves this socket") {
		t.Errorf("it does not say why:\n%s", h.log())
	}
	h.ready()
}

// TestRemovalsWait: what Docker removes while the agent can't start is removed by the agent that starts next, addresses included, and one
// that is asked for again by name is free.
func TestRemovalsWait(t *testing.T) {
	h := newHost(t)
	h.start()
	ctx := h.Deadline(2 * patience)
	d := h.Docker()
	web, err := d.Network(ctx, id("net", 1), "10.1.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := d.Network(ctx, id("net", 2), "10.2.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := web.Join(ctx, id("ep", 1), mac(1))
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	h.IP("addr", "flush", "dev", "eth0")
	h.begin()
	h.Eventually("calls are refused for want of an address", func() error {
		if _, err := d.Call(ctx, "NetworkDriver.Join", object{"NetworkID": web.ID, "EndpointID": e.ID}); err == nil || !strings.Contains(err.Error(), "--advertise") {
			return fmt.Errorf("join: %w", err)
		}
		return nil
	})
	for _, remove := range []func(context.Context) error{
		func(ctx context.Context) error {
			return every(ctx, d, e, "NetworkDriver.Leave", "NetworkDriver.DeleteEndpoint", "IpamDriver.ReleaseAddress")
		},
		func(ctx context.Context) error {
			_, err := d.Call(ctx, "IpamDriver.ReleasePool", object{"PoolID": gone.Pool})
			return err
		},
		func(ctx context.Context) error {
			_, err := d.Call(ctx, "NetworkDriver.DeleteNetwork", object{"NetworkID": gone.ID})
			return err
		},
	} {
		if err := remove(ctx); err == nil || !strings.Contains(err.Error(), "not ready") {
			t.Errorf("a removal that was not done is answered with %v", err)
		}
	}
	h.IP("addr", "add", underlay+"/24", "dev", "eth0")
	h.ready()
	// The agent knows at once what is removed, and takes it from the switch with its first passes.
	h.Within(20*time.Second, "what Docker removed is gone", func() error {
		info, err := h.admin().Info(ctx)
		if err != nil || len(info.Networks) != 1 || info.Networks[0].Endpoints != 0 || h.metric("socketplane_endpoints") != 0 ||
			strings.Contains(h.IP("-br", "link"), e.Link) {
			return fmt.Errorf("networks %+v, %w", info.Networks, err)
		}
		return nil
	})
	again, err := d.Call(ctx, "IpamDriver.RequestAddress", object{"PoolID": web.Pool, "Address": e.Addr,
		"Options": object{"com.docker.network.endpoint.macaddress": mac(9)}})
	if err != nil || !strings.HasPrefix(again["Address"].(string), e.Addr+"/") {
		t.Errorf("the address is asked for again: %v, %v", again, err)
	}
}

// every calls all methods for an endpoint, and returns the first success as nil, which is a failure here.
func every(ctx context.Context, d *docker, e *endpoint, methods ...string) (err error) {
	for _, method := range methods {
		if _, err = d.Call(ctx, method, object{"NetworkID": e.Network.ID, "EndpointID": e.ID, "PoolID": e.Network.Pool, "Address": e.Addr}); err == nil {
			return nil
		}
	}
	return err
}
