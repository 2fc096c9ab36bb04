// Package trust owns a cluster's keys: each host's identity, the certificate authorities and what they sign, the
// gossip keys, Consul's tokens, the form of join tokens, the files in which a host keeps them, and their
// rotation.
//
// What the keys are is decided by one record, store.Keys; this package makes it, carries its changes to this host
// (Keeper), and moves its rotation on (Rotator). It may import store and Consul's API client, for Consul's operator
// calls. It must not know how hosts find each other, how a Consul process is run, or who asks to join.
package trust
