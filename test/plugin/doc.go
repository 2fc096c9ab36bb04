// Package plugin tests the managed plugin as Docker's users have it: created, set, enabled, disabled, restarted with the engine and
// removed, on hosts without Open vSwitch of their own and on hosts with it. Each lab runs the engine that SOCKETPLANE_E2E_ENGINE names.
//
// It may use test/lab, test/internal/fences and internal/testenv only.
package plugin
