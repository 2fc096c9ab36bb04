// Package statedir owns an agent's state directory: the names of the files in it, how the host's own are opened, the host's id, and which files are an agent's
// to remove.
//
// It imports store and store/bolt for the host's own store, and internal/journal for that of addresses. It must not know the cluster's store, nor what the records mean.
package statedir
