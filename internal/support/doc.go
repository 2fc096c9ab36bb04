// Package support owns what a bug report is told: which files 'socketplane support' writes, what is in each, and which secrets are blanked. The form of the archive is
// internal/bundle's.
//
// It imports the parts that tell of themselves. It changes nothing, and must not know how the agent starts and stops.
package support
