// Package crash kills a real agent at every write it makes, in every handler, and demands that it recovers: that the call can
// be repeated or given up, and that nothing is left when all has been removed. It speaks Docker's protocol to the agent
// itself, so that it knows in which call the agent is; networks that the agent makes and removes by itself go through a real Docker.
//
// It may import test/lab, internal/testenv, and store to be a second host; it must not know what the agent does
// between two writes.
package crash
