// Package plugin serves Docker's two remote plugin protocols, NetworkDriver and IpamDriver, on one unix socket.
//
// It owns the socket (leftover sockets, systemd activation, graceful shutdown), the handshake, the
// decoding and checking of requests, deadlines and limits, and the mapping of errors to answers. It answers by
// itself what needs no state: capabilities, address spaces, discovery, external connectivity, and Swarm's
// allocation of networks.
//
// It may import go-plugins-helpers and the standard library. It must not know OVS, Consul, netlink or the store:
// whoever implements [NetworkDriver] and [IPAMDriver] does.
//
// The request and response types are those of go-plugins-helpers, but not its handler: sdk.Handler hides its
// http.Server, so that it can neither be shut down nor limited, it makes one manifest for each protocol where Docker
// wants one for each socket, and its decoder accepts anything behind the first JSON value.
//
// # Cancellation
//
// A handler runs under a context of its own with the deadline of [Options].Timeout. It isn't derived from the
// client's connection: dockerd never takes a request back, it retries with an empty body when its connection
// breaks, and a change that is cut off in the middle leaves more to repair than one that was finished. The end of
// Serve's context doesn't cancel handlers either; they are drained, and cut only when the drain takes too long.
package plugin
