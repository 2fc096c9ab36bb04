// Package crashpoint owns the list of places at which the agent writes something that outlives it, and lets tests kill
// it there. In a binary that users have, Hit is empty and costs nothing; only one that was built with the tag "crashpoints"
// can be killed, and so no setting can do it by accident.
//
// Whoever writes calls Hit before the write and, where something follows that a crash could prevent, after it.
// internal/layout demands it beside every write. Names are literals, unique, and begin with what is written to; test/crash
// lists them from the sources, and kills an agent at each.
//
// It may import the standard library only, and must not know who writes.
package crashpoint

// DirVar is the environment variable that names a directory for a binary with the tag: every hit is a line of the
// file "hits" in it. When a file "armed" appears with "N NAME" in it, the process dies at the Nth hit of that name from
// then on, having renamed the file to "fired".
const DirVar = "SOCKETPLANE_CRASHPOINTS"
