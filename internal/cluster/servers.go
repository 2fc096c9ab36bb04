package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/socketplane/socketplane/internal/cluster/admission"
	"github.com/socketplane/socketplane/internal/cluster/discovery"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// holds says whether this host holds all keys of the cluster, so that it changes the records of keys and members itself.
// Others let a server do it.
func (s *session) holds() bool { return s.c.keeper.Credentials().Keys.Private() }

// serves says whether this host's Consul is a server, or is to be one.
func (s *session) serves() bool {
	s.mu.Lock()
	me, _ := memberOf(s.members, s.c.opts.Host)
	s.mu.Unlock()
	return me.Role == store.RoleServer || s.c.records.get().Role == store.RoleServer
}

// subject is this host as its certificate is to name it.
func (s *session) subject() trust.Subject {
	host := s.c.subject()
	host.Client = !s.serves()
	return host
}

// holdKeys gets the keys that only servers hold when this host is to be one, and a member's certificate when it is none any more. It
// says whether this host has what it is to have.
func (s *session) holdKeys(ctx context.Context) (bool, error) {
	if s.follower.Fits() {
		return true, nil
	}
	if err := s.follower.Renew(ctx); err != nil {
		return false, s.quiet(fmt.Errorf("this host's credentials are to change with its role: %w", err))
	}
	return s.follower.Fits(), nil
}

// ownToken is this host's own Consul token.
func (s *session) ownToken(ctx context.Context, _ store.Keys) (store.Secret, error) {
	return s.op.HostToken(ctx, s.c.opts.Host, store.Secret{})
}

// askServer asks a server for the credentials that this host may hold.
func (s *session) askServer(ctx context.Context) (trust.Credentials, error) {
	epoch := s.c.keeper.Credentials().Keys.Epoch
	return s.c.askEach(ctx, s.askable(), admission.Question{Host: s.c.host(), Trust: s.c.trusts(), Cluster: s.id, Again: true, Epoch: epoch})
}

// askable are the addresses of the other members: servers where they are heard or were last known, then those that only pass a
// question on.
func (s *session) askable() []netip.AddrPort {
	heard := map[string]netip.AddrPort{}
	for _, p := range s.c.disco.Peers() {
		if p.Cluster == s.id && p.State == discovery.Member {
			heard[p.Host] = netip.AddrPortFrom(p.Addr, p.Port)
		}
	}
	var all []netip.AddrPort
	for _, p := range s.c.keeper.Credentials().Peers {
		if addr, ok := heard[p.ID]; ok && p.Server {
			all = append(all, addr)
		} else if p.Server {
			all = append(all, p.Addr)
		}
	}
	servers := len(all)
	for _, addr := range s.others() {
		if !slices.Contains(all, addr) {
			all = append(all, addr)
		}
	}
	for _, part := range [][]netip.AddrPort{all[:servers], all[servers:]} { // who has no time for all asks others next time
		rand.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return all
}

// confirm tells the cluster which keys this host uses.
func (s *session) confirm(ctx context.Context, epoch uint64) error { return s.report(ctx, epoch) }

// report writes what this host says of itself into its member's record.
func (s *session) report(ctx context.Context, epoch uint64) error {
	h, leaving := s.c.host(), s.c.records.get().Leaving
	if !s.holds() {
		return s.let(ctx, admission.Request{Do: admission.Report, Epoch: epoch, Leaving: leaving})
	}
	return s.st.UpdateMember(ctx, h.ID, func(m *store.Member) error {
		m.Addr, m.Port, m.Name, m.State, m.Epoch, m.Trust = h.Addr, h.Port, h.Name, "", epoch, s.c.trusts()
		if leaving {
			m.State = store.StateLeaving
		}
		return nil
	})
}

// resign removes this host's record as a member.
func (s *session) resign(ctx context.Context) error {
	if s.holds() {
		return s.st.RemoveMember(ctx, s.c.opts.Host)
	}
	return s.let(ctx, admission.Request{Do: admission.Resign})
}

// let lets a server do something. The error wraps store.ErrUnavailable if none did, store.ErrNotFound or store.ErrConflict if it
// could not be done.
func (s *session) let(ctx context.Context, r admission.Request) error {
	r.Host, r.Cluster = s.c.host(), s.id
	last := errors.New("this host knows no other of its cluster")
	for _, addr := range s.askable() {
		ask, cancel := context.WithTimeout(ctx, askTime)
		err := admission.Do(ask, s.c.keeper, addr, r)
		cancel()
		var refused *admission.Refused
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &refused), refused.Code == admission.CodeNotNow:
			last = err
		case refused.Code == admission.CodeNotMember:
			return store.ErrNotMember
		case refused.Code == admission.CodeNotFound:
			return fmt.Errorf("%w: %s", store.ErrNotFound, refused.Text)
		default:
			return fmt.Errorf("%w: %s", store.ErrConflict, refused.Text)
		}
	}
	return fmt.Errorf("%w: no server of the cluster did it: %w", store.ErrUnavailable, last)
}

// change changes records of keys or members: here if this host holds all keys, else a server does what r says.
func (c *Cluster) change(ctx context.Context, r admission.Request, here func(*store.Cluster) error) error {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	if s == nil {
		_, _, err := c.kv.get()
		return errors.Join(ErrNotInCluster, err)
	}
	if s.holds() {
		return here(s.st)
	}
	return s.let(ctx, r)
}

// SetLocked closes or opens the cluster.
func (c *Cluster) SetLocked(ctx context.Context, locked bool) error {
	if locked {
		return c.change(ctx, admission.Request{Do: admission.Lock}, func(st *store.Cluster) error { return st.Lock(ctx) })
	}
	return c.change(ctx, admission.Request{Do: admission.Unlock}, func(st *store.Cluster) error { return st.Unlock(ctx) })
}

// CreateToken records a join token.
func (c *Cluster) CreateToken(ctx context.Context, t store.JoinToken) error {
	return c.change(ctx, admission.Request{Do: admission.CreateToken, Join: &t}, func(st *store.Cluster) error { return st.CreateToken(ctx, t) })
}

// RemoveToken removes a join token.
func (c *Cluster) RemoveToken(ctx context.Context, id string) error {
	return c.change(ctx, admission.Request{Do: admission.RemoveToken, Target: id}, func(st *store.Cluster) error { return st.RemoveToken(ctx, id) })
}

// Remove removes a host that is down from the cluster, with its records.
func (c *Cluster) Remove(ctx context.Context, id string) error {
	return c.change(ctx, admission.Request{Do: admission.Remove, Target: id}, func(st *store.Cluster) error { return admission.RemoveDown(ctx, st, id) })
}

// Forget removes the records of a host that is down, which stays a member.
func (c *Cluster) Forget(ctx context.Context, id string) error {
	return c.change(ctx, admission.Request{Do: admission.Forget, Target: id}, func(st *store.Cluster) error { return st.RemoveHost(ctx, id) })
}
