package cli

import (
	"os"
	"runtime"
	"runtime/debug"
)

const (
	// gcPercent collects garbage at a quarter of Go's default growth: an agent is idle nearly always, and with a thousand endpoints it needs
	// a third less memory.
	gcPercent = 25
	// gcBallast is counted as memory in use, in bytes, though no page of it is ever there: so a heap of some MiB may grow by at least 8 MiB
	// between two collections. Without it an agent that starts containers collects after every third of them, for a quarter of its CPU time.
	gcBallast = 32 << 20
)

// CollectGarbage sets when an agent collects garbage, unless GOGC says it, for as long as end is not called.
func CollectGarbage() (end func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	ballast := setGarbage()
	return func() { runtime.KeepAlive(ballast) }
}

// setGarbage is CollectGarbage for as long as the ballast is in use.
func setGarbage() (ballast []byte) {
	debug.SetGCPercent(gcPercent)
	return make([]byte, gcBallast) // without pointers, fresh from the kernel: it is neither cleared nor looked at
}
