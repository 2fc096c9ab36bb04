// Package discovery owns how hosts on one network segment hear of each other: multicast DNS (RFC 6762, 6763), service
// _socketplane._tcp, on the underlay's interface and on no other.
//
// What is announced is public, and what is heard is a hint that anybody may have forged: trust is made elsewhere. A host
// speaks the family of its underlay's address only, since tunnels join hosts of one family. The package may import the
// standard library, golang.org/x/net and golang.org/x/sys; it knows neither what a cluster is nor what follows from what it hears.
package discovery
