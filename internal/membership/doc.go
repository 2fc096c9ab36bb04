// Package membership answers what an operator asks about the cluster that this host is in, and does what the host owes it: the commands of 'socketplane cluster', the file
// with a token, the farewell of a host that leaves, the removal of one that will not come back.
//
// It imports internal/cluster and what that consists of, store, and the values of internal/adminapi, driver and internal/dockerwatch. It must not know how the agent is put
// together. How hosts form a cluster is internal/cluster's.
package membership
