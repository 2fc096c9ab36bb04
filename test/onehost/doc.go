// Package onehost holds tests of the real agent, as a process, on one host without Docker: a network namespace with its own Open
// vSwitch. They speak Docker's protocol to it, and look at what it serves and leaves behind. What needs containers or
// several hosts is in test/e2e.
//
// It imports test/lab for the binary and internal/testenv, and store to plant what other hosts would have written.
package onehost
