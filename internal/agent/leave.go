package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/store"
)

// LeaveCluster begins to leave the cluster. Containers that use its networks forbid it, unless it is forced.
func (a *agent) LeaveCluster(ctx context.Context, force bool) error {
	c, err := a.managed()
	if err != nil {
		return err
	}
	if !force {
		if err := a.unused(ctx); err != nil {
			return err
		}
	}
	return clusterSpoken(c.Leave(ctx, force))
}

// unused says what of this host uses the cluster's networks.
func (a *agent) unused(ctx context.Context) error {
	var found []string
	for _, n := range a.driver.Networks() {
		if n.Endpoints == 0 {
			continue
		}
		names := []string{}
		if e, err := a.cluster.Endpoints(ctx, n.ID, a.cluster.Host()); err == nil {
			for _, e := range e.Endpoints {
				if e.Container != nil {
					names = append(names, e.Container.Name)
				}
			}
		}
		slices.Sort(names)
		text := fmt.Sprintf("%d containers", n.Endpoints)
		if len(names) > 0 {
			text = strings.Join(names, ", ")
		}
		found = append(found, fmt.Sprintf("%s (%s)", n.Name, text))
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	return fmt.Errorf("%w: containers of this host use the cluster's networks: %s: stop or disconnect them, or leave with --force, which cuts them off from other hosts",
		adminapi.ErrConflict, strings.Join(found, "; "))
}

// farewell removes what this host has in the cluster's store, before it leaves: first whatever would put it there again is stopped.
func (a *agent) farewell(ctx context.Context, force bool) error {
	a.presence.Close()
	err := a.dropNetworks(ctx)
	if err != nil && !force {
		return err
	}
	if err := a.cluster.RemoveHost(ctx, a.cluster.Host()); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// removeMember removes a host that will not come back from the cluster that this agent runs: first its record as a member, so that it can't
// come back in between, then the rest. A member may have no other record than that.
func (a *agent) removeMember(ctx context.Context, hosts store.Membership, name string) error {
	members, err := a.cluster.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		if _, known := hosts.Hosts[m.ID]; !known {
			hosts.Hosts[m.ID] = store.Host{ID: m.ID, Name: m.Name}
		}
	}
	h, err := hosts.FindHost(name)
	switch {
	case err != nil:
		return err
	case hosts.Alive[h.ID]:
		return fmt.Errorf("%w: the agent of host %s is up: run 'socketplane cluster leave' there, or stop it first", store.ErrConflict, h.Name)
	}
	return a.storage.managed.Remove(ctx, h.ID)
}

// dropNetworks removes the cluster's networks from this host's Docker.
func (a *agent) dropNetworks(ctx context.Context) error {
	var errs []error
	for _, n := range a.driver.Networks() {
		if a.docker == nil {
			errs = append(errs, fmt.Errorf("network %s is on this host, and the agent has no access to Docker's API: 'docker network rm %s'", n.Name, n.Name))
			continue
		}
		err := a.driver.Drop(ctx, n.DockerID)
		if errors.Is(err, driver.ErrUnknown) {
			continue // it is going already
		}
		if err == nil {
			err = a.docker.Remove(ctx, n.DockerID)
		}
		switch {
		case err == nil:
		case errors.Is(err, dockerwatch.ErrRefused):
			errs = append(errs, fmt.Errorf("network %s is in use: %w: stop or disconnect its containers", n.Name, err), a.driver.Keep(ctx, n.DockerID))
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
