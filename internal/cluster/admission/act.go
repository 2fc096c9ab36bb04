package admission

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// Action is what a member lets a server do: those changes of the records of keys and members for which its own Consul token
// does not suffice.
type Action string

// The actions.
const (
	// Report writes what the member says of itself into its record.
	Report Action = "report"
	// Claim changes nothing: it asks whether the member may take part at its address, or is up elsewhere.
	Claim Action = "claim"
	// Resign removes the member's own record.
	Resign Action = "resign"
	// Remove removes another host that is down, its records and its membership; Forget its records only.
	Remove Action = "remove"
	Forget Action = "forget"
	// Lock and Unlock close and open the cluster.
	Lock   Action = "lock"
	Unlock Action = "unlock"
	// CreateToken records a join token, RemoveToken removes one.
	CreateToken Action = "token-create"
	RemoveToken Action = "token-remove"
)

func (a Action) known() bool {
	switch a {
	case "", Report, Claim, Resign, Remove, Forget, Lock, Unlock, CreateToken, RemoveToken:
		return true
	}
	return false
}

// Request is what a member asks a server to do.
type Request struct {
	Host    Host
	Cluster string
	Do      Action
	// Epoch and Leaving go with Report.
	Epoch   uint64
	Leaving bool
	// Target is the id of a host or of a join token, Join the record of a token that is to be made.
	Target string
	Join   *store.JoinToken
}

// Do asks the member at addr, which passes it on if it is no server. A refusal is a *Refused.
func Do(ctx context.Context, keeper *trust.Keeper, addr netip.AddrPort, r Request) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := put(ctx, keeper.MemberTLS(), addr, ask{
		Version: version, Host: r.Host, Cluster: r.Cluster, Again: true, Trust: store.TrustLeaf, Epoch: r.Epoch,
		Do: r.Do, Leaving: r.Leaving, Target: r.Target, Join: r.Join,
	})
	var refused *Refused
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("ask %s to do it: %w", addr, err)
}

// sound says whether a record of a token can be one that a member has made.
func sound(t store.JoinToken) bool {
	hash, err := hex.DecodeString(t.Hash)
	ca, err2 := hex.DecodeString(t.CA)
	return err == nil && err2 == nil && len(hash) == 32 && len(ca) == 32 && plain(t.ID, 64) && t.Uses >= 0 && t.Used == 0
}

// act does what a member wants. Who asks has proven its key, which must be that of the member whose id it tells.
func (s *server) act(ctx context.Context, who asker) error {
	members, err := s.cluster.Members(ctx)
	if err != nil {
		return err
	}
	found := false
	for _, m := range members {
		found = found || m.ID == who.Host.ID && m.Key == who.key
	}
	if !found {
		return store.ErrNotMember
	}
	switch who.Do {
	case Report:
		err = s.cluster.UpdateMember(ctx, who.Host.ID, func(m *store.Member) error {
			h := who.Host
			m.Name, m.Addr, m.Port, m.Epoch, m.Trust, m.State = h.Name, h.Addr, h.Port, who.Epoch, who.Trust, ""
			if who.Leaving {
				m.State = store.StateLeaving
			}
			return nil
		})
	case Resign:
		err = s.cluster.RemoveMember(ctx, who.Host.ID)
	case Remove:
		err = RemoveDown(ctx, s.cluster, who.Target)
	case Forget:
		err = s.cluster.RemoveHost(ctx, who.Target)
	case Lock:
		err = s.cluster.Lock(ctx)
	case Unlock:
		err = s.cluster.Unlock(ctx)
	case CreateToken:
		err = s.cluster.CreateToken(ctx, *who.Join)
	case RemoveToken:
		err = s.cluster.RemoveToken(ctx, who.Target)
	}
	if errors.Is(err, store.ErrUnavailable) || err == nil {
		if err == nil && who.Do != Report && who.Do != Claim {
			s.log.Info("done for a member", "peer", who.from, "host", who.Host.ID, "name", who.Host.Name, "action", string(who.Do), "target", who.Target)
		}
		return err
	}
	if errors.Is(err, store.ErrNotFound) {
		return refuse(CodeNotFound, "%s", err)
	}
	return refuse(CodeConflict, "%s", err)
}

// RemoveDown removes a host that is down: first its record as a member, so that it can't come back in between, then the rest. A
// member may have no other record than that. The error wraps store.ErrConflict if the host is up.
func RemoveDown(ctx context.Context, cluster *store.Cluster, id string) error {
	hosts, err := cluster.Hosts(ctx)
	if err != nil {
		return err
	}
	if hosts.Alive[id] {
		return fmt.Errorf("%w: the agent of host %s is up: stop it there first", store.ErrConflict, id)
	}
	if err := cluster.RemoveMember(ctx, id); err != nil {
		return err
	}
	if err := cluster.RemoveHost(ctx, id); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return nil
}
