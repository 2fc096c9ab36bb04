package store

import (
	"context"
	"errors"
)

// Identity is what tells this cluster's data from any other's; who asks first makes it. Data that were lost, and made anew, have
// another one.
func (c *Cluster) Identity(ctx context.Context) (string, error) {
	for {
		e, err := c.kv.Get(ctx, IdentityKey)
		if err == nil || !errors.Is(err, ErrNotFound) {
			return string(e.Value), err
		}
		err = c.kv.Apply(ctx, Op{Kind: OpSet, Key: IdentityKey, Value: []byte(NewNonce())})
		if err != nil && !errors.Is(err, ErrConflict) { // another host was faster
			return "", err
		}
	}
}
