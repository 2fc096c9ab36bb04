package cli

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

var garbage []byte

// TestAgentCollectsSeldom: an agent with little in memory collects garbage after 8 MiB of it at the earliest, and needs no memory for that.
func TestAgentCollectsSeldom(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	const made = 64 << 20
	defer CollectGarbage()()
	runtime.GC()
	before, resident := stats(), residentKiB(t)
	for range made / 4096 {
		garbage = make([]byte, 4096)
	}
	collections, grown := stats().NumGC-before.NumGC, residentKiB(t)-resident
	if most := uint32(made / (gcBallast * gcPercent / 100)); collections > most {
		t.Errorf("%d collections for %d MiB of garbage, at most %d are right", collections, made>>20, most)
	}
	if grown > 16<<10 {
		t.Errorf("the process has grown by %d KiB", grown)
	}
}

func stats() (m runtime.MemStats) {
	runtime.ReadMemStats(&m)
	return m
}

// residentKiB is VmRSS (proc(5)).
func residentKiB(t *testing.T) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}
