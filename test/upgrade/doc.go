// Package upgrade shows that a cluster of the former release becomes one of this release host by host, and goes back, while its containers talk: no
// answer to a ping is lost, no flow is missing, no address changes hands, and agents of both releases understand each other meanwhile.
//
// It owns the former release's agent, which it builds from the commit that former names. It may import test/lab and internal/testenv; it must not know
// SocketPlane's internals, only what Docker, Open vSwitch, Consul's keys and the command line show.
package upgrade
