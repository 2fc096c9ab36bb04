//go:build !crashpoints

package journal

// minCompact is the size below which a file is not worth rewriting.
const minCompact = 1 << 20
