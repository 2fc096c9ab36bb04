// Package ovs starts a private Open vSwitch for a test: one ovsdb-server and one
// ovs-vswitchd with their files in a directory of their own and with a network
// namespace of their own, so that tests of several packages run side by side.
//
// It may be imported by tests only, and imports internal/testenv and the
// standard library. It must not know what our packages do with the switch:
// it is the judge of what they do.
package ovs
