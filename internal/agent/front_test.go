package agent

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/docker/go-plugins-helpers/network"

	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/plugin"
	"github.com/socketplane/socketplane/plugin/netapi"
)

// removals hears of removed networks.
type removals struct {
	plugin.NetworkDriver
	at     time.Time
	caller int
}

func (r *removals) DeleteNetwork(ctx context.Context, _ *network.DeleteNetworkRequest) error {
	r.at, r.caller = netapi.Arrival(ctx), netapi.Caller(ctx)
	return nil
}

// TestOwedRemoval: a removal that waits for an agent stays the request that Docker made, with its time and its caller: Docker is asked
// why it removed the network by what it did since.
func TestOwedRemoval(t *testing.T) {
	s := newSupervisor(config.Config{}, Options{Logger: slog.New(slog.DiscardHandler)})
	s.failed(errors.New("no address"))
	at := time.Now().Add(-time.Hour)
	ctx := netapi.WithArrival(netapi.WithCaller(t.Context(), 42), at)
	if err := (front{s}).DeleteNetwork(ctx, &network.DeleteNetworkRequest{NetworkID: "n"}); err == nil {
		t.Error("a removal was done without an agent")
	}
	var got removals
	s.adopt(t.Context(), &agent{network: &got})
	if !got.at.Equal(at) || got.caller != 42 {
		t.Errorf("the removal came at %v from %d, want %v from 42", got.at, got.caller, at)
	}
}
