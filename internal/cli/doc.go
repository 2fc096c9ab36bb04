// Package cli owns the command line: one file per verb, what it prints, and the exit codes. Output streams, environment
// and the agent itself are injected, so that every verb is tested as users run it.
//
// It may import internal/adminapi, internal/config, internal/version and cobra, and internal/agent for the verb
// agent. It must not know Open vSwitch, Consul or netlink: whatever it tells, the agent said.
package cli
