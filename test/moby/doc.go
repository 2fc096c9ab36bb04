// Package moby drives package plugin by the remote clients of Docker Engine itself (libnetwork's network driver, IPAM
// driver and plugin client), in place of a dockerd. It is a module of its own, so that moby stays out of the
// dependencies of SocketPlane. It may import package plugin and moby; nothing imports it.
//
//	cd test/moby && go test .
//
// When go.mod of SocketPlane moves to newer versions, `go mod tidy` has to follow here.
package moby
