package mirror

import (
	"context"
	"errors"
	"fmt"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
)

// replace is for a network whose name another network of the cluster got first: the cluster's takes its place here.
func (p *pass) replace(ctx context.Context, n dockerwatch.Network, b netview.Network) error {
	other, err := p.cluster.NetworkNamed(ctx, n.Name)
	if errors.Is(err, store.ErrNotFound) {
		p.Wake() // it is free again
		return nil
	}
	if err != nil {
		return err
	}
	own, err := p.cluster.Bound(ctx, other.ID)
	if err != nil {
		return err
	}
	if own.Away {
		// This host let go of the cluster's network. Who creates one of that name here wants it again, and it has another subnet only because
		// Docker's allocator keeps off the cluster's.
		if err := p.cluster.Attach(ctx, other.ID); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	why := fmt.Sprintf("another host created a network of this name first: the cluster's has %v, this one has %v", other.Pools, b.Pools)
	if b.Endpoints = p.joined(n.ID); b.Endpoints > 0 {
		return p.drop(ctx, n, b, why)
	}
	// A container whose start is under way keeps Docker from removing the network. It must not join a segment that ends on this host. Drop
	// comes first, so that a pass after a crash in between still removes the network.
	b.Cut = why + "; it is replaced: start the container again"
	err = p.driver.Drop(ctx, n.ID)
	if err == nil {
		err = p.driver.CutOff(ctx, n.ID, b.Cut)
	}
	if errors.Is(err, driver.ErrUnknown) {
		return nil // it is going already
	}
	if err != nil {
		return err
	}
	return p.drop(ctx, n, b, why)
}

// joined counts the containers on a Docker network at this moment: the pass began with an older count.
func (p *pass) joined(dockerID string) int {
	for _, b := range p.driver.Networks() {
		if b.DockerID == dockerID {
			return b.Endpoints
		}
	}
	return 0
}

// drop removes a Docker network of this host unless containers use it.
func (p *pass) drop(ctx context.Context, n dockerwatch.Network, b netview.Network, why string) error {
	cure := "remove or disconnect these, then it goes by itself"
	if b.Endpoints > 0 {
		p.trouble(b.ID, n.Name, "%s; %d containers of this host still use it: %s", why, b.Endpoints, cure)
		return nil
	}
	if err := p.driver.Drop(ctx, n.ID); err != nil {
		if errors.Is(err, driver.ErrUnknown) {
			return nil // it is going already
		}
		return err
	}
	err := p.docker.Remove(ctx, n.ID)
	if err == nil {
		p.log.Info("network is removed here", "network", n.Name, "cause", why)
		p.Wake() // its name may be free for another one
		return nil
	}
	if b.Cut == "" { // the removal of one that is cut off changes nothing in the cluster, and a later pass removes it
		if kept := p.driver.Keep(ctx, n.ID); kept != nil && !errors.Is(kept, driver.ErrUnknown) {
			err = errors.Join(err, kept)
		}
	}
	if errors.Is(err, dockerwatch.ErrRefused) {
		p.trouble(b.ID, n.Name, "%s; %s: %s", why, err, cure)
		return nil
	}
	return err
}
