package trust

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/socketplane/socketplane/store"
)

// Gossip is what the rotation needs of Consul.
type Gossip interface {
	// SetKeyring lets all members that are up have these gossip keys and no others, and use the first. It returns
	// nil when that is so.
	SetKeyring(ctx context.Context, keys []store.Secret) error
}

// Rotator moves the rotation of a cluster's keys on. One agent does it at a time, the one beside Consul's leader; when two do,
// nothing worse happens than that one of them is told of a conflict. It is not for concurrent use.
type Rotator struct {
	cluster *store.Cluster
	gossip  Gossip
	life    Lifetimes
	log     *slog.Logger
	// settled is the epoch whose gossip keys all members had when no rotation was under way: then nobody is asked again.
	settled uint64
	told    string
}

// NewRotator makes a Rotator.
func NewRotator(cluster *store.Cluster, gossip Gossip, life Lifetimes, log *slog.Logger) *Rotator {
	return &Rotator{cluster: cluster, gossip: gossip, life: life.Complete(), log: log}
}

// Advance takes a step if one can be taken. It is to be called every second while this host leads; it costs one read when there is
// nothing to do. What it does is done again by whoever comes next, should this host die in the middle. Up are the ids of
// hosts whose Consul gossips; those whose agents are up are waited for in any case.
func (r *Rotator) Advance(ctx context.Context, up map[string]bool, now time.Time) error {
	keys, err := r.cluster.Keys(ctx)
	if err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	quiet := keys.Phase == store.PhaseNone && !keys.Rotate && !expiring(keys, r.life, now)
	if quiet && r.settled == keys.Epoch {
		return nil
	}
	view := View{Now: now}
	if err := r.gossip.SetKeyring(ctx, keys.Gossip); err != nil {
		r.tell("the gossip keys are not yet those of the cluster on every host", err)
	} else {
		view.Gossip = true
	}
	if quiet {
		return r.settle(ctx, keys, view.Gossip)
	}
	if view.Epochs, err = r.epochs(ctx, up); err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	return r.step(ctx, keys, view)
}

// settle ends what a rotation leaves behind: tokens that know the cluster by an authority which is no more.
func (r *Rotator) settle(ctx context.Context, keys store.Keys, gossip bool) error {
	var cas []string
	for _, ca := range keys.CAs {
		hash, err := CAHash(ca)
		if err != nil {
			return fmt.Errorf("rotation of the keys: %w", err)
		}
		cas = append(cas, hash)
	}
	if err := r.cluster.RemoveTokensExcept(ctx, cas); err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	if gossip {
		r.settled, r.told = keys.Epoch, ""
	}
	return nil
}

// step writes the next phase, unless the keys are others by now.
func (r *Rotator) step(ctx context.Context, seen store.Keys, view View) error {
	var stepped bool
	next, err := r.cluster.UpdateKeys(ctx, func(k *store.Keys) (bool, error) {
		if stepped = false; k.Epoch != seen.Epoch || k.Phase != seen.Phase {
			return false, nil
		}
		next, changed, err := Step(*k, view, r.life, func() (store.Authority, store.Secret, error) {
			ca, err := newAuthority(k.Cluster, r.life.CA, view.Now)
			return ca, newGossipKey(), err
		})
		*k, stepped = next, changed
		return changed, err
	})
	if err != nil {
		return fmt.Errorf("rotation of the keys: %w", err)
	}
	if stepped {
		phase := next.Phase
		if phase == store.PhaseNone {
			phase = "done"
		}
		r.log.Info("the cluster's keys are rotated", "phase", string(phase), "epoch", next.Epoch)
	}
	return nil
}

// epochs are those of the members that are up: a Consul that runs without its agent votes, too. Who is down is admitted again by
// its key when it comes back.
func (r *Rotator) epochs(ctx context.Context, up map[string]bool) ([]uint64, error) {
	members, err := r.cluster.Members(ctx)
	if err != nil {
		return nil, err
	}
	hosts, err := r.cluster.Hosts(ctx)
	if err != nil {
		return nil, err
	}
	var epochs []uint64
	for _, m := range members {
		if up[m.ID] || hosts.Alive[m.ID] {
			epochs = append(epochs, m.Epoch)
		}
	}
	return epochs, nil
}

// tell logs once what is mostly over in a second: a host that has just died is asked in vain.
func (r *Rotator) tell(what string, err error) {
	if text := err.Error(); text != r.told {
		r.told = text
		r.log.Info(what, "err", err)
	}
}
