// Package checkup makes the checks of a host whose agent runs: it gives each check of internal/doctor what the agent's parts know, and asks the store once for all of
// them. What can be wrong, and what mends it, is internal/doctor's.
//
// It imports the parts that are looked at. It changes nothing, and must not know how the agent starts and stops.
package checkup
