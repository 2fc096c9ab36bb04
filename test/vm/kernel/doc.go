// Package kernel holds the tests of what differs on a kernel with Open vSwitch's datapath: they run on Debian's kernel, in a
// VM that the test program boots by itself (test/vm).
//
// It owns nothing outside the VM. It may import test/lab, test/vm and internal/testenv, and must not know SocketPlane's
// internals.
package kernel
