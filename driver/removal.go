package driver

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/socketplane/socketplane/plugin/netapi"
	"github.com/socketplane/socketplane/store"
)

// Removal is a network that Docker has removed from this host. `docker network rm` means all hosts; `docker network prune`
// removes what idles on this one. Docker's request is the same for both, so it is asked afterwards, and the
// journal has the record until the cluster knows the answer.
type Removal struct {
	Schema int `json:"schema"`
	// Network is the cluster's id, DockerID that of this host's Docker.
	Network  string `json:"network"`
	DockerID string `json:"docker_id"`
	Name     string `json:"name,omitempty"`
	// At is when Docker asked for the removal.
	At time.Time `json:"at"`
	// Doubtful is set if another Docker Engine than the one that is asked may have removed it.
	Doubtful bool `json:"doubtful,omitempty"`
	// Verdict is why Docker removed it, as soon as that is known. It never changes: Docker forgets, and would give another
	// answer later.
	Verdict Verdict `json:"verdict,omitempty"`
}

// Verdict says why Docker removed a network.
type Verdict string

const (
	Undecided      Verdict = ""
	RemovedByUser  Verdict = "removed" // from all hosts
	PrunedHere     Verdict = "pruned"  // because it idled here
	RemovedUnknown Verdict = "unknown" // Docker does not remember
)

// Removals lists the removals that are not settled yet, the oldest first.
func (d *Driver) Removals() []Removal {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Removal, 0, len(d.removals))
	for _, r := range d.removals {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Removal) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return strings.Compare(a.DockerID, b.DockerID)
	})
	return all
}

// Removed gets a value when there is a new removal.
func (d *Driver) Removed() <-chan struct{} { return d.removed }

// SettleRemoval ends a removal by its verdict: a network that a user removed goes from all hosts, or from this one only if
// containers of others use it; any other the cluster keeps. The verdict is journalled first. It is done when settled is true: before,
// this host is not unbound yet.
func (d *Driver) SettleRemoval(ctx context.Context, r Removal, v Verdict) (settled bool, err error) {
	if r.Verdict == Undecided {
		r.Verdict = v
		if over, err := d.keepVerdict(ctx, r); over || err != nil {
			return false, err
		}
	}
	if _, bound := d.find(r.DockerID); bound {
		return false, nil
	}
	if r.Verdict == RemovedByUser {
		if err := d.cluster.Discard(ctx, r.Network); err != nil {
			return false, err
		}
	}
	return true, d.forgetRemoval(ctx, r.DockerID)
}

// keepVerdict journals the verdict of a removal; over is true if the removal was cancelled meanwhile.
func (d *Driver) keepVerdict(ctx context.Context, r Removal) (over bool, err error) {
	if !d.removing(r.DockerID) {
		return true, nil
	}
	if err := d.put(ctx, store.LocalRemovalKey(r.DockerID), r); err != nil {
		return false, err
	}
	d.mu.Lock()
	_, still := d.removals[r.DockerID]
	if still {
		d.removals[r.DockerID] = r
	}
	d.mu.Unlock()
	if !still {
		return true, d.drop(ctx, store.LocalRemovalKey(r.DockerID))
	}
	return false, nil
}

// putRemoval journals that a network is being removed, together with what is to be decided on.
func (d *Driver) putRemoval(ctx context.Context, b binding) error {
	ops := []store.Op{{Kind: store.OpPut, Key: store.LocalBindingKey(b.DockerID), Value: store.Encode(b)}}
	r := Removal{Schema: store.Schema, Network: b.Network, DockerID: b.DockerID, Name: b.Name, At: netapi.Arrival(ctx).UTC(), Doubtful: b.Engine != ""}
	ask := d.judged && !b.Dropped && b.Cut == "" && !d.removing(b.DockerID)
	if ask {
		ops = append(ops, store.Op{Kind: store.OpPut, Key: store.LocalRemovalKey(b.DockerID), Value: store.Encode(r)})
	}
	if err := d.local.Apply(ctx, ops...); err != nil || !ask {
		return err
	}
	d.mu.Lock()
	d.removals[b.DockerID] = r
	d.mu.Unlock()
	select {
	case d.removed <- struct{}{}:
	default: // it is known that there are some
	}
	return nil
}

func (d *Driver) removing(dockerID string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, is := d.removals[dockerID]
	return is
}

// cancelRemovals is for a network that this host's Docker has made again: what it removed before says nothing any more.
func (d *Driver) cancelRemovals(ctx context.Context, network string) {
	for _, r := range d.Removals() {
		if r.Network != network {
			continue
		}
		if err := d.forgetRemoval(ctx, r.DockerID); err != nil {
			d.log.Warn("a removal that is over stays in the journal", "network", r.Name, "err", err)
		}
	}
}

func (d *Driver) forgetRemoval(ctx context.Context, dockerID string) error {
	if err := d.drop(ctx, store.LocalRemovalKey(dockerID)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.removals, dockerID)
	return nil
}
