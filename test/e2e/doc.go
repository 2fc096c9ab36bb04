// Package e2e shows what users do, on real Docker hosts with nothing faked: each test is a promise of the
// README. Tests whose names begin with TestCore also run inside a VM on two hosts (`make e2e-kernel`).
//
// It owns nothing but its networks and containers, all of which it removes. It may import test/lab and
// internal/testenv; it must not know SocketPlane's internals, only what Docker, the plugin's socket and the
// command line show.
package e2e
