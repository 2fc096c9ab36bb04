//go:build crashpoints

package journal

// minCompact has the agents that tests kill at each write rewrite their files after some calls already.
const minCompact = 1 << 10
