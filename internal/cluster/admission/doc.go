// Package admission owns the door of a cluster: the TLS server through which members admit hosts and give them the
// cluster's keys, its client, and the few bytes that they say to each other.
//
// One connection carries one question and one answer, both JSON. Who asks proves the private key of its identity in
// the TLS handshake; whose key is a member's is that member, whatever certificate it shows. Who has a
// token verifies by it that it speaks to a member before it says anything; a member verifies the
// cluster by what it knows of it. Whoever joins an open cluster without a token believes the first that answers, as
// VXLAN believes its underlay.
//
// The package may import store and internal/cluster/trust. It must not know how hosts are discovered, what Consul is, or what a role is.
package admission
