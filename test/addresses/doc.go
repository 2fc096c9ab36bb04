// Package addresses shows that address management is right under failures: hosts that are processes of their own, a real
// Consul behind a proxy that loses and delays, crashes, and a checker of the history.
//
// It has tests only. It may import ipamdriver, its stores, internal/testenv and test/internal/proxy; it knows neither Docker nor Open vSwitch.
package addresses
