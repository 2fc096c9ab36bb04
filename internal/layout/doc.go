// Package layout owns no code: its tests hold what the packages of this repository promise each other (who may import
// what, package comments, the size of files), so that a wall that falls is noticed in the change that breaks it.
//
// The tests read the sources with the standard library only, and must not know what any package does.
package layout
