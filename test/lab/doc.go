// Package lab makes real Docker hosts out of namespaces, on one machine: each host has its own network, mounts,
// processes and host name, an Open vSwitch, a Docker Engine, and a SocketPlane agent; they share an underlay with a
// Consul server and an "outside" beyond their default route.
//
// It owns everything with the lab's name in it: network namespaces, processes, cgroups and one directory.
// It may import internal/testenv; it must not know SocketPlane's internals, only its command line.
package lab
