// Package chaos lets users' operations go on at three Docker hosts while faults strike at random, and demands what must hold
// whatever happens: no address twice, no frame across networks, hardly a lost ping for those whom a fault does not touch, and
// afterwards a state that is the one that anybody would compute anew.
//
// It owns faults and their plan. It may import test/lab, test/internal/proxy and internal/testenv; it must not know SocketPlane's
// internals, only what is seen of them: Docker, Open vSwitch, the kernel and Consul's keys.
package chaos
