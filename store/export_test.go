package store

// The stored forms that only this package knows.
type (
	NetworkRecord = networkRecord
	PoolRecord    = poolRecord
	BoundRecord   = boundRecord
)

// BoundOps is boundOps.
var BoundOps = (*Cluster).boundOps
