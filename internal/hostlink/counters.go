package hostlink

import "sync/atomic"

// Counts is what Links cost. Tests hold changes to it, and metrics tell it.
type Counts struct {
	// Dumps are lists that the kernel was asked for: links, addresses, routes, forwarding entries. Their cost grows with the host.
	Dumps uint64
	// Read are the links in the kernel's answers.
	Read uint64
	// Requests are those that made pairs of links.
	Requests uint64
	// Entries are changes of forwarding entries that were sent, EntriesRead the entries in the kernel's answers.
	Entries, EntriesRead uint64
	// ModuleAsks are questions for a generic netlink family by name, at which a kernel that lacks it runs modprobe.
	ModuleAsks uint64
}

type counters struct{ dumps, read, requests, entries, entriesRead, moduleAsks atomic.Uint64 }

// Counts are the counts since New. They only grow.
func (l *Links) Counts() Counts {
	return Counts{
		Dumps: l.counts.dumps.Load(), Read: l.counts.read.Load(), Requests: l.counts.requests.Load(), Entries: l.counts.entries.Load(), EntriesRead: l.counts.entriesRead.Load(),
		ModuleAsks: l.counts.moduleAsks.Load(),
	}
}
