package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/socketplane/socketplane/store"
)

// renewPause is the pause after a failure of Follow's.
const renewPause = time.Second

// renewEvery is how often a certificate's age is looked at, if not more often as it lasts shortly.
const renewEvery = time.Hour

// Reload lets this host's Consul take up credentials that have changed. It is called after they were saved, and again if it failed.
type Reload func(ctx context.Context, c Credentials) error

// Follow keeps this host's credentials those of the cluster until ctx ends: the keys as they change, its own certificate as
// it ages or as host answers differently, and the epoch in its member's record when its Consul has taken them up.
func (k *Keeper) Follow(ctx context.Context, cluster *store.Cluster, host func() Subject, reload Reload, log *slog.Logger) error {
	f := follower{Keeper: k, cluster: cluster, host: host, reload: reload}
	var since uint64
	told := ""
	for {
		index, err := f.pass(ctx, since)
		if ctx.Err() != nil {
			return nil
		}
		since = index
		if err == nil {
			told = ""
			continue
		}
		// A store that is away is said by others, and often.
		if text := err.Error(); text != told && !errors.Is(err, store.ErrUnavailable) {
			told = text
			log.Warn("this host's credentials are not those of the cluster yet", "err", err)
		}
		timer := time.NewTimer(renewPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

type follower struct {
	*Keeper
	cluster *store.Cluster
	host    func() Subject
	reload  Reload
	// loaded is the certificate and the epoch that Consul has taken up.
	loaded string
}

// pass waits for a change after since, and carries it out. After an error it begins anew.
func (f *follower) pass(ctx context.Context, since uint64) (uint64, error) {
	wait, cancel := context.WithTimeout(ctx, min(renewEvery, f.life.Leaf/6))
	keys, index, err := f.cluster.WatchKeys(wait, since)
	late := wait.Err() != nil
	cancel()
	switch {
	case err != nil && late && ctx.Err() == nil:
		// The hour is over: the certificate may be due.
		keys = f.Credentials().Keys
	case errors.Is(err, store.ErrNotFound):
		return 0, fmt.Errorf("%w: this cluster's keys are not in its store", err)
	case err != nil:
		// The certificate must not run out while the store is away.
		_, _ = f.renew(ctx, f.Credentials().Keys, nil)
		return 0, err
	}
	members, err := f.cluster.Members(ctx) // after the keys: those who were removed before these were made are not among them
	if err != nil {
		return 0, err
	}
	if _, err := f.renew(ctx, keys, Peers(members, f.cluster.Host())); err != nil {
		return 0, err
	}
	return index, f.confirm(ctx, members)
}

// renew saves what is new, and lets Consul take it up.
func (f *follower) renew(ctx context.Context, keys store.Keys, peers []Peer) (Credentials, error) {
	host := f.host()
	f.mu.Lock()
	c, changed, err := f.renewed(f.now().creds, keys, host, time.Now())
	if peers != nil {
		c.Peers = peers
	}
	if err == nil && changed {
		err = f.set(c)
	}
	f.mu.Unlock()
	if err != nil {
		return c, err
	}
	if state := fmt.Sprint(c.Keys.Epoch, " ", string(c.Cert)); state != f.loaded {
		if err := f.reload(ctx, c); err != nil {
			return c, fmt.Errorf("consul does not take up the new credentials: %w", err)
		}
		f.loaded = state
	}
	return c, nil
}

// confirm writes the epoch of what is used here into this host's record.
func (f *follower) confirm(ctx context.Context, members []store.Member) error {
	epoch := f.Credentials().Keys.Epoch
	for _, m := range members {
		if m.ID == f.cluster.Host() && m.Epoch == epoch {
			return nil
		}
	}
	return f.cluster.UpdateMember(ctx, f.cluster.Host(), func(m *store.Member) error {
		m.Epoch = epoch
		return nil
	})
}
