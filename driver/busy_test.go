package driver_test

import (
	"context"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/driver"
)

// TestBusyNetworkAnswers: while the data plane hangs with a network, calls about it are answered within their time, with what to do, and readers do
// not wait at all.
func TestBusyNetworkAnswers(t *testing.T) {
	w := newWorld(t)
	a := w.host("a").run()
	w.must(a.create("n1", space, "network", "web"))
	a.container("n1", "e1", "10.1.0.7/24")
	w.eventually("the data plane has the container", func() bool { return a.plane.String() != "" })
	id := a.Networks()[0].ID
	_, err := a.endpoint("n1", "e2", "10.1.0.8/24", "")
	w.must(err)
	release, joined := a.joinHeld(id, "n1", "e2")
	w.eventually("the data plane hangs", func() bool { return a.Networks()[0].Endpoints == 2 })
	for name, call := range map[string]func(ctx context.Context) error{
		"CreateEndpoint": func(ctx context.Context) error {
			_, err := a.CreateEndpoint(ctx, &network.CreateEndpointRequest{NetworkID: "n1", EndpointID: "e3",
				Interface: &network.EndpointInterface{Address: "10.1.0.9/24"}})
			return err
		},
		"Join": func(ctx context.Context) error {
			_, err := a.Join(ctx, &network.JoinRequest{NetworkID: "n1", EndpointID: "e1"})
			return err
		},
		"EndpointInfo": func(ctx context.Context) error {
			_, err := a.EndpointInfo(ctx, &network.InfoRequest{NetworkID: "n1", EndpointID: "e1"})
			return err
		},
		"Leave": func(ctx context.Context) error {
			return a.Leave(ctx, &network.LeaveRequest{NetworkID: "n1", EndpointID: "e1"})
		},
		"DeleteEndpoint": func(ctx context.Context) error {
			return a.DeleteEndpoint(ctx, &network.DeleteEndpointRequest{NetworkID: "n1", EndpointID: "e1"})
		},
		"DeleteNetwork": func(ctx context.Context) error {
			return a.DeleteNetwork(ctx, &network.DeleteNetworkRequest{NetworkID: "n1"})
		},
		"SetName": func(ctx context.Context) error { return a.SetName(ctx, "n1", "other") },
		"CutOff":  func(ctx context.Context) error { return a.CutOff(ctx, "n1", "why") },
		"Sync":    a.Sync,
	} {
		ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
		t.Log(name)
		w.wants(call(ctx), driver.ErrBusy, "network web", "repeat the command", "deadline exceeded")
		cancel()
	}
	if at := a.Attached()["n1"]; len(at) != 2 || len(a.Described()) != 2 || len(a.Held()) != 2 || a.Pending() || len(a.Duplicates()) > 0 {
		t.Errorf("attached are %v", at)
	}
	close(release)
	w.must(<-joined)
}
