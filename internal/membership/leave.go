package membership

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/store"
)

// LeaveCluster begins to leave the cluster. Containers that use its networks forbid it, unless it is forced.
func (m *Membership) LeaveCluster(ctx context.Context, force bool) error {
	c, err := m.managed()
	if err != nil {
		return err
	}
	if !force {
		if err := m.unused(ctx); err != nil {
			return err
		}
	}
	return spoken(c.Leave(ctx, force))
}

// unused says what of this host uses the cluster's networks.
func (m *Membership) unused(ctx context.Context) error {
	var found []string
	for _, n := range m.deps.Networks() {
		if n.Endpoints == 0 {
			continue
		}
		names := []string{}
		if e, err := m.deps.Cluster.Endpoints(ctx, n.ID, m.deps.Cluster.Host()); err == nil {
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

// RemoveMember removes a host that will not come back from the cluster that this agent runs: first its record as a member, so that it can't
// come back in between, then the rest. A member may have no other record than that.
func (m *Membership) RemoveMember(ctx context.Context, hosts store.Membership, name string) error {
	members, err := m.deps.Cluster.Members(ctx)
	if err != nil {
		return err
	}
	for _, member := range members {
		if _, known := hosts.Hosts[member.ID]; !known {
			hosts.Hosts[member.ID] = store.Host{ID: member.ID, Name: member.Name}
		}
	}
	h, err := hosts.FindHost(name)
	switch {
	case err != nil:
		return err
	case hosts.Alive[h.ID]:
		return fmt.Errorf("%w: the agent of host %s is up: run 'socketplane cluster leave' there, or stop it first", store.ErrConflict, h.Name)
	}
	return m.deps.Managed.Remove(ctx, h.ID)
}

// Driver is the network driver, as far as networks are taken from this host.
type Driver interface {
	Networks() []netview.Network
	// Drop lets go of a network, given by Docker's id, so that Docker can remove it; Keep takes that back.
	Drop(ctx context.Context, dockerID string) error
	Keep(ctx context.Context, dockerID string) error
}

// Docker removes networks.
type Docker interface {
	Remove(ctx context.Context, dockerID string) error
}

// Farewell is what a host does before it leaves a cluster. Whatever would put there again what it removes must have ended.
type Farewell struct {
	Cluster *store.Cluster
	Driver  Driver
	Docker  Docker // nil without Docker's API
}

// Say removes what this host has in the cluster's store, and the cluster's networks from its Docker. With force it goes on where a network is in use.
func (f Farewell) Say(ctx context.Context, force bool) error {
	err := f.dropNetworks(ctx)
	if err != nil && !force {
		return err
	}
	if err := f.Cluster.RemoveHost(ctx, f.Cluster.Host()); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}

// dropNetworks removes the cluster's networks from this host's Docker.
func (f Farewell) dropNetworks(ctx context.Context) error {
	var errs []error
	for _, n := range f.Driver.Networks() {
		if f.Docker == nil {
			errs = append(errs, fmt.Errorf("network %s is on this host, and the agent has no access to Docker's API: 'docker network rm %s'", n.Name, n.Name))
			continue
		}
		err := f.Driver.Drop(ctx, n.DockerID)
		if errors.Is(err, driver.ErrUnknown) {
			continue // it is going already
		}
		if err == nil {
			err = f.Docker.Remove(ctx, n.DockerID)
		}
		switch {
		case err == nil:
		case errors.Is(err, dockerwatch.ErrRefused):
			errs = append(errs, fmt.Errorf("network %s is in use: %w: stop or disconnect its containers", n.Name, err), f.Driver.Keep(ctx, n.DockerID))
		default:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
