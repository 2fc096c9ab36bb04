// Package cluster holds the cluster that hosts form by themselves to what users rely on: it forms, grows, loses hosts, is parted,
// reboots and shrinks, while containers talk.
//
// It may import internal/testenv and test/lab; it must not know how hosts find each other. What it wants to know it asks the command line.
package cluster
