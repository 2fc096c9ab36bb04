package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Errors of admission.
var (
	// ErrLocked says that the cluster admits new hosts with a token only.
	ErrLocked = errors.New("cluster is locked")
	// ErrTokenUnknown says that there is no such token, or that its secret is another one.
	ErrTokenUnknown = errors.New("token unknown")
	// ErrTokenExpired says that the token's time is over.
	ErrTokenExpired = errors.New("token expired")
	// ErrTokenSpent says that the token was used as often as it may be.
	ErrTokenSpent = errors.New("token spent")
	// ErrOtherKey says that the host's id belongs to a member with another key.
	ErrOtherKey = errors.New("host id has another key")
	// ErrNotMember says that the cluster has no such member.
	ErrNotMember = errors.New("not a member")
)

// Roles of a member: what its Consul process is.
const (
	RoleServer = "server"
	RoleClient = "client"
)

// StateLeaving is the state of a member that is about to leave.
const StateLeaving = "leaving"

// Member is a host of a cluster that SocketPlane runs itself. Whoever holds the private key belonging to Key is this member.
type Member struct {
	Schema int        `json:"schema"`
	ID     string     `json:"id"`
	Name   string     `json:"name"`
	Addr   netip.Addr `json:"addr"`
	// Port is the first of the member's four ports, on which it admits others.
	Port uint16 `json:"port"`
	// Key is the SHA-256 of the member's public key (SPKI), in hex.
	Key    string    `json:"key"`
	Joined time.Time `json:"joined"`
	Role   string    `json:"role"`
	State  string    `json:"state,omitempty"`
	// Epoch is that of the newest Keys that the member has and uses.
	Epoch uint64 `json:"epoch"`
	// Trust is TrustLeaf for a member whose agent can do without the keys that only servers hold. Agents that don't know this
	// field remove it when they write the record.
	Trust int    `json:"trust,omitempty"`
	Nonce string `json:"nonce"`
}

// TrustLeaf is Member.Trust of agents that know Keys.Split.
const TrustLeaf = 1

// AddrPort is where the member admits others.
func (m Member) AddrPort() netip.AddrPort { return netip.AddrPortFrom(m.Addr, m.Port) }

// Candidate is a host that asks to be a member.
type Candidate struct {
	// Member is what it says of itself, with the key that it has proven.
	Member Member
	// Token is the id of the token that it shows, "" for none, and Secret the token's secret.
	Token  string
	Secret Secret
	// Again says that it believes to be a member: it is not made one. Its Member.Epoch is that of the keys which it uses; with
	// 0 it is about to use those that it gets.
	Again bool
}

// ErrOldAgent says that the host's agent is older than the cluster's keys allow.
var ErrOldAgent = errors.New("agent too old")

// Members lists the members, by the time at which they joined.
func (c MemberRecords) Members(ctx context.Context) ([]Member, error) {
	entries, err := c.kv.List(ctx, MembersPrefix)
	if err != nil {
		return nil, err
	}
	return members(entries)
}

// WatchMembers is KV.Watch for the members.
func (c MemberRecords) WatchMembers(ctx context.Context, since uint64) ([]Member, uint64, error) {
	entries, index, err := c.kv.Watch(ctx, MembersPrefix, since)
	if err != nil {
		return nil, 0, err
	}
	all, err := members(entries)
	return all, index, err
}

func members(entries []Entry) ([]Member, error) {
	all := make([]Member, 0, len(entries))
	for _, e := range entries {
		m, err := Decode[Member](e)
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(a.Joined.Compare(b.Joined), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// PutMember makes the record of a member that needs no admission (who founds a cluster), or writes it anew. It returns ErrOtherKey
// if another key has the id.
func (c MemberRecords) PutMember(ctx context.Context, m Member) error {
	return c.change(ctx, func() ([]Op, error) {
		old, version, err := find[Member](ctx, c.kv, MemberKey(m.ID))
		if err != nil {
			return nil, err
		}
		if version != 0 && old.Key != m.Key {
			return nil, otherKey(old)
		}
		return []Op{setMember(m, version)}, nil
	})
}

// UpdateMember lets change alter the member's record, again when somebody else was faster. It returns
// ErrNotMember if there is none. Nothing is written when change alters nothing.
func (c MemberRecords) UpdateMember(ctx context.Context, id string, change func(*Member) error) error {
	return c.change(ctx, func() ([]Op, error) {
		m, version, err := find[Member](ctx, c.kv, MemberKey(id))
		if err != nil {
			return nil, err
		}
		if version == 0 {
			return nil, notMember(id)
		}
		old := m
		if err := change(&m); err != nil || m == old {
			return nil, err
		}
		return []Op{setMember(m, version)}, nil
	})
}

// Admit makes a candidate a member, and counts the use of its token, in one transaction. A host whose id and key are a
// member's is that member, whether the cluster is locked or not, and uses up no token. It returns the member's record
// and the keys that belong to it, or why it was refused.
func (c MemberRecords) Admit(ctx context.Context, who Candidate) (Member, Keys, error) {
	var admitted Member
	var keys Keys
	err := c.change(ctx, func() (ops []Op, err error) {
		var version uint64
		found, err := c.findKeys(ctx)
		if keys, version = found.Keys, found.version; err != nil {
			return nil, err
		}
		if version == 0 {
			return nil, errNoKeys()
		}
		// A lock in the same moment makes the transaction fail.
		ops = []Op{{Kind: OpCheck, Key: ClusterKeysKey, Version: version}}
		old, at, err := find[Member](ctx, c.kv, MemberKey(who.Member.ID))
		switch {
		case err != nil:
			return nil, err
		case at != 0 && old.Key != who.Member.Key:
			return nil, otherKey(old)
		case at != 0:
			admitted = old
			admitted.Name, admitted.Addr, admitted.Port, admitted.Trust = who.Member.Name, who.Member.Addr, who.Member.Port, who.Member.Trust
			if admitted.Epoch = who.Member.Epoch; admitted.Epoch == 0 {
				admitted.Epoch = keys.Epoch
			}
			if err := admitted.follows(keys); err != nil {
				return nil, err
			}
			if admitted == old {
				return nil, nil
			}
			return append(ops, setMember(admitted, at)), nil
		case who.Again:
			return nil, notMember(who.Member.ID)
		}
		if err := who.Member.follows(keys); err != nil {
			return nil, err
		}
		use, err := c.useToken(ctx, keys, who)
		if err != nil {
			return nil, err
		}
		admitted = who.Member
		admitted.Joined, admitted.Epoch, admitted.Role, admitted.State = time.Now().UTC(), keys.Epoch, RoleClient, ""
		return append(append(ops, use...), setMember(admitted, 0)), nil
	})
	if err != nil {
		return Member{}, Keys{}, err
	}
	return admitted, keys, nil
}

// RemoveMember removes a member's record, which makes its key worthless. In a locked cluster the keys are
// rotated, which the same transaction asks for. None to remove is no error.
func (c MemberRecords) RemoveMember(ctx context.Context, id string) error {
	return c.change(ctx, func() ([]Op, error) {
		_, version, err := find[Member](ctx, c.kv, MemberKey(id))
		if err != nil || version == 0 {
			return nil, err
		}
		ops := []Op{{Kind: OpDelete, Key: MemberKey(id), Version: version}}
		keys, err := c.findKeys(ctx)
		if err != nil {
			return nil, err
		}
		if keys.Locked {
			keys.Rotate = true
			ops = append(ops, keys.ops()...)
		} else if keys.version != 0 {
			ops = append(ops, Op{Kind: OpCheck, Key: ClusterKeysKey, Version: keys.version})
		}
		return ops, nil
	})
}

// follows says whether the member's agent can have what such keys give to members.
func (m Member) follows(keys Keys) error {
	if keys.Split && m.Trust < TrustLeaf {
		return fmt.Errorf("%w: the agent of host %s (%s) asks for keys that only servers of this cluster hold now", ErrOldAgent, m.ID, m.Name)
	}
	return nil
}

func setMember(m Member, version uint64) Op {
	m.Schema, m.Nonce = Schema, NewNonce()
	return Op{Kind: OpSet, Key: MemberKey(m.ID), Value: Encode(m), Version: version}
}

func otherKey(m Member) error {
	return fmt.Errorf("%w: host %s (%s) was admitted with another key: remove it with 'socketplane host rm %s', or give this host an id of its own by emptying its state directory",
		ErrOtherKey, m.ID, m.Name, m.ID)
}

func notMember(id string) error {
	return fmt.Errorf("%w: the cluster has no host %s", ErrNotMember, id)
}
