// Package cluster owns what this host is in which cluster: how it finds or founds one, its role there, how it leaves, and the
// store.KV through which the rest of the agent reaches the cluster's state, which is there from the start.
//
// It may import store, store/consul, its own parts (discovery, trust, admission, consulproc) and Consul's API client. It must not
// know networks, containers or the data plane, nor who asks it.
package cluster
