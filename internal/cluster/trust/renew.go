package trust

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/socketplane/socketplane/internal/lock"
	"github.com/socketplane/socketplane/store"
)

// renewPause is the pause after a failure of Run's.
const renewPause = time.Second

// renewEvery is how often a certificate's age is looked at, if not more often as it lasts shortly.
const renewEvery = time.Hour

// askTime bounds the question to servers, however many are asked one after the other.
const askTime = 30 * time.Second

// Ways are what a Follower needs of its host. All must be set.
type Ways struct {
	// Host is for whom certificates are made. Its Client says that this host may not hold what only servers hold.
	Host func() Subject
	// Token gives this host's own Consul token, and makes it if there is none. It is called on hosts that hold all keys.
	Token func(ctx context.Context, keys store.Keys) (store.Secret, error)
	// Ask asks a server of the cluster for the credentials that this host may hold.
	Ask func(ctx context.Context) (Credentials, error)
	// Confirm writes the epoch into this host's record.
	Confirm func(ctx context.Context, epoch uint64) error
	// Reload lets this host's Consul take up credentials that have changed. It is called after they were saved, and again if it failed.
	Reload func(ctx context.Context, c Credentials) error
}

// Follower keeps this host's credentials those of the cluster: the keys as they change, its own certificate as it ages or as the
// host's address or role changes, and the epoch in its member's record when its Consul has taken them up.
type Follower struct {
	*Keeper
	cluster *store.Cluster
	ways    Ways
	log     *slog.Logger

	turn lock.Lock // one renewal at a time
	// loaded is the state of the credentials that Consul has taken up.
	loaded string
}

// NewFollower makes a Follower for the keys in cluster.
func (k *Keeper) NewFollower(cluster *store.Cluster, ways Ways, log *slog.Logger) *Follower {
	return &Follower{Keeper: k, cluster: cluster, ways: ways, log: log, turn: lock.New()}
}

// take waits for its turn to change the credentials, until ctx ends. After nil, done ends the turn.
func (f *Follower) take(ctx context.Context) error {
	if err := f.turn.Take(ctx); err != nil {
		return fmt.Errorf("%w: this host's credentials are being renewed: %w", store.ErrUnavailable, err)
	}
	return nil
}

func (f *Follower) done() { f.turn.Release() }

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
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
			f.log.Warn("this host's credentials are not those of the cluster yet", "err", err)
		}
		timer := time.NewTimer(renewPause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// pass waits for a change after since, and carries it out. After an error it begins anew.
func (f *Follower) pass(ctx context.Context, since uint64) (uint64, error) {
	wait, cancel := context.WithTimeout(ctx, min(renewEvery, f.life.Leaf/6))
	keys, index, err := f.cluster.WatchKeys(wait, since)
	late := wait.Err() != nil
	cancel()
	switch {
	case err != nil && late && ctx.Err() == nil:
		// The hour is over: the certificate may be due.
		keys, index = f.Credentials().Keys, since
	case errors.Is(err, store.ErrNotFound):
		return 0, fmt.Errorf("%w: this cluster's keys are not in its store", err)
	case err != nil:
		// The certificate must not run out while the store is away.
		_ = f.renew(ctx, f.Credentials().Keys, nil)
		return 0, err
	}
	if err := f.follow(ctx, keys); err != nil {
		return 0, err
	}
	return index, nil
}

// Renew does at once what Run does when the keys change: this host's role or address is another one.
func (f *Follower) Renew(ctx context.Context) error {
	keys, err := f.cluster.Keys(ctx)
	if err != nil {
		return err
	}
	return f.follow(ctx, keys)
}

// Fits says whether this host has what it is to have: in a Split cluster all keys or the public ones only, and the certificate
// for its role and address.
func (f *Follower) Fits() bool {
	c, host := f.Credentials(), f.ways.Host()
	if !c.Keys.Split {
		return true
	}
	return c.Keys.Private() != host.Client && c.Token.Reveal() != "" && f.good(c, host, time.Now())
}

// Release removes what only servers hold from this host if it may not hold it any more.
func (f *Follower) Release(ctx context.Context) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.done()
	c := f.Credentials()
	if !f.ways.Host().Client || !c.Keys.Split || !c.Keys.Private() || c.Token.Reveal() == "" {
		return nil
	}
	c.Keys = c.Keys.Public()
	return f.Set(c)
}

// follow makes this host's credentials fit the keys, of which it may know the public part only.
func (f *Follower) follow(ctx context.Context, keys store.Keys) error {
	if keys.Split && f.Credentials().Keys.Private() && !f.ways.Host().Client {
		all, err := f.cluster.AllKeys(ctx)
		if err != nil {
			return err
		}
		keys = all
	}
	members, err := f.cluster.Members(ctx) // after the keys: those who were removed before these were made are not among them
	if err != nil {
		return err
	}
	if err := f.renew(ctx, keys, Peers(members, f.cluster.Host())); err != nil {
		return err
	}
	return f.confirm(ctx, members)
}

// renew saves what is new, and lets Consul take it up.
func (f *Follower) renew(ctx context.Context, keys store.Keys, peers []Peer) error {
	if err := f.take(ctx); err != nil {
		return err
	}
	defer f.done()
	host := f.ways.Host()
	old := f.Credentials()
	next, err := f.wanted(ctx, old, keys, host)
	if err != nil {
		return err
	}
	if peers != nil {
		next.Peers = peers
	}
	if state(next) != state(old) {
		if err := f.Set(next); err != nil {
			return err
		}
	}
	if now := state(next); now != f.loaded {
		if err := f.ways.Reload(ctx, next); err != nil {
			return fmt.Errorf("consul does not take up the new credentials: %w", err)
		}
		f.loaded = now
	}
	return nil
}

// state identifies credentials, but for the peers.
func state(c Credentials) string {
	return fmt.Sprint(c.Keys.Epoch, " ", c.Keys.Nonce, " ", c.Keys.Private(), " ", c.Token.Reveal(), " ", string(c.Cert))
}

// wanted gives the credentials that this host is to have with such keys. It asks a server for what it can't make itself.
func (f *Follower) wanted(ctx context.Context, c Credentials, keys store.Keys, host Subject) (Credentials, error) {
	host.Client = host.Client && keys.Split
	if host.Client {
		return f.ofClient(ctx, c, keys.Public(), host)
	}
	if !keys.Private() {
		return f.ask(ctx, c, keys, host)
	}
	c.Keys = keys
	if !f.good(c, host, time.Now()) {
		cert, err := Issue(keys, host, f.id.Public(), f.life.Leaf, time.Now())
		if err != nil {
			return c, err
		}
		c.Cert = cert
	}
	if keys.Split && c.Token.Reveal() == "" {
		token, err := f.ways.Token(ctx, keys)
		if err != nil {
			return c, err
		}
		c.Token = token
	}
	return c, nil
}

// ofClient keeps what only servers hold away from this host. With a token of its own it forgets that at once, even where nobody
// gives it a client's certificate yet.
func (f *Follower) ofClient(ctx context.Context, c Credentials, keys store.Keys, host Subject) (Credentials, error) {
	if c.Token.Reveal() != "" {
		if c.Keys.Private() {
			c.Keys = c.Keys.Public()
			if err := f.Set(c); err != nil {
				return c, err
			}
		}
		c.Keys = keys
		if f.good(c, host, time.Now()) {
			return c, nil
		}
	}
	return f.ask(ctx, c, keys, host)
}

// ask gets from a server what this host may hold.
func (f *Follower) ask(ctx context.Context, c Credentials, keys store.Keys, host Subject) (Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	got, err := f.ways.Ask(ctx)
	if err != nil {
		return c, err
	}
	if host.Client {
		got.Keys = got.Keys.Public()
	}
	if got.Token.Reveal() == "" { // its giver had no store to look into
		got.Token = c.Token
	}
	got.Peers = c.Peers
	switch {
	case got.Keys.Epoch < keys.Epoch:
		return c, fmt.Errorf("the server that was asked has keys of epoch %d, the cluster's are of %d: it follows in a moment", got.Keys.Epoch, keys.Epoch)
	case !host.Client && !got.Keys.Private():
		return c, errors.New("the server that was asked does not know yet that this host is to be a server: it is asked again")
	case got.Token.Reveal() == "":
		return c, fmt.Errorf("%w: this host has no Consul token of its own yet", store.ErrUnavailable)
	case !f.fits(got, host, time.Now()):
		return c, errors.New("the server that was asked answered with a certificate that does not fit: it is asked again")
	}
	return got, nil
}

// confirm writes the epoch of what is used here into this host's record.
func (f *Follower) confirm(ctx context.Context, members []store.Member) error {
	epoch := f.Credentials().Keys.Epoch
	for _, m := range members {
		if m.ID == f.cluster.Host() && m.Epoch == epoch {
			return nil
		}
	}
	return f.ways.Confirm(ctx, epoch)
}
