package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// keepToken is how long a token is kept after it expired, so that who uses it is told why it is refused.
const keepToken = 7 * 24 * time.Hour

// JoinToken admits new hosts to a locked cluster.
type JoinToken struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	// Hash is the SHA-256 of the secret, in hex: the secret itself is nowhere but in the token.
	Hash string `json:"hash"`
	// CA is the hash of the authority by which the token knows the cluster. Without that authority the token is worthless.
	CA   string    `json:"ca"`
	Made time.Time `json:"made"`
	// Expires is zero for a token that does not.
	Expires time.Time `json:"expires,omitzero"`
	// Uses is how many hosts may join with it, 0 for any number; Used is how many did.
	Uses  int    `json:"uses,omitempty"`
	Used  int    `json:"used"`
	Nonce string `json:"nonce"`
}

// Spent says whether the token admits nobody any more, and why.
func (t JoinToken) Spent(now time.Time) error {
	switch {
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return ErrTokenExpired
	case t.Uses != 0 && t.Used >= t.Uses:
		return ErrTokenSpent
	}
	return nil
}

// HashSecret is the recorded form of a token's secret, which is random and long, so that a plain hash can't be reversed.
func HashSecret(secret Secret) string {
	sum := sha256.Sum256([]byte(secret.Reveal()))
	return hex.EncodeToString(sum[:])
}

// CreateToken records a token; those that expired long ago are removed.
func (c MemberRecords) CreateToken(ctx context.Context, t JoinToken) error {
	all, err := c.Tokens(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	t.Schema, t.Made, t.Nonce = Schema, now, NewNonce()
	ops := []Op{{Kind: OpSet, Key: TokenKey(t.ID), Value: Encode(t)}}
	for _, old := range all {
		if !old.Expires.IsZero() && now.Sub(old.Expires) > keepToken && len(ops) < MaxOps {
			ops = append(ops, Op{Kind: OpRemove, Key: TokenKey(old.ID)})
		}
	}
	return c.kv.Apply(ctx, ops...)
}

// Tokens lists the tokens, by the time at which they were made.
func (c MemberRecords) Tokens(ctx context.Context) ([]JoinToken, error) {
	var all []JoinToken
	err := list(ctx, c.kv, TokensPrefix, func(_ Entry, t JoinToken) { all = append(all, t) })
	slices.SortFunc(all, func(a, b JoinToken) int { return cmp.Or(a.Made.Compare(b.Made), cmp.Compare(a.ID, b.ID)) })
	return all, err
}

// RemoveToken removes a token; ErrNotFound if there is none.
func (c MemberRecords) RemoveToken(ctx context.Context, id string) error {
	return c.change(ctx, func() ([]Op, error) {
		_, version, err := find[JoinToken](ctx, c.kv, TokenKey(id))
		if err != nil {
			return nil, err
		}
		if version == 0 {
			return nil, fmt.Errorf("%w: the cluster has no token %s: see 'socketplane cluster token ls'", ErrNotFound, id)
		}
		return []Op{{Kind: OpDelete, Key: TokenKey(id), Version: version}}, nil
	})
}

// RemoveTokensExcept removes the tokens that know the cluster by another authority than these.
func (c MemberRecords) RemoveTokensExcept(ctx context.Context, cas []string) error {
	all, err := c.Tokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if slices.Contains(cas, t.CA) {
			continue
		}
		if err := c.kv.Apply(ctx, Op{Kind: OpRemove, Key: TokenKey(t.ID)}); err != nil {
			return err
		}
	}
	return nil
}

// useToken gives the operations that count one use of the candidate's token, or says why it is refused. Who shows a token needs a
// good one in an open cluster too.
func (c *core) useToken(ctx context.Context, keys Keys, who Candidate) ([]Op, error) {
	if who.Token == "" {
		if keys.Locked {
			return nil, fmt.Errorf("%w: a new host needs a token", ErrLocked)
		}
		return nil, nil
	}
	key := TokenKey(who.Token)
	if ValidKey(key) != nil {
		return nil, ErrTokenUnknown
	}
	t, version, err := find[JoinToken](ctx, c.kv, key)
	if err != nil {
		return nil, err
	}
	if version == 0 || subtle.ConstantTimeCompare([]byte(t.Hash), []byte(HashSecret(who.Secret))) != 1 {
		return nil, ErrTokenUnknown
	}
	if err := t.Spent(time.Now()); err != nil {
		return nil, err
	}
	t.Used, t.Nonce = t.Used+1, NewNonce()
	return []Op{{Kind: OpSet, Key: key, Value: Encode(t), Version: version}}, nil
}
