package store

import "context"

// The stored forms that only this package knows.
type (
	NetworkRecord = networkRecord
	PoolRecord    = poolRecord
	BoundRecord   = boundRecord
	HostHeads     = hostHeads
	JanitorRecord = janitorRecord
)

// BoundOps is boundOps in the layout as it is.
func BoundOps(c *Cluster, ctx context.Context, network string) ([]Op, error) {
	m, err := c.mark(ctx)
	if err != nil {
		return nil, err
	}
	return c.boundOps(ctx, m, network)
}
