package cli

import (
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"
)

var garbage []byte

// TestAgentCollectsSeldom: an agent with little in memory collects garbage after 8 MiB of it at the earliest, and needs no memory for that.
func TestAgentCollectsSeldom(t *testing.T) {
	// In a process of its own, as at an agent's start: memory that was in use before is cleared, and so is in memory.
	const child = "SOCKETPLANE_TEST_COLLECTS"
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAgentCollectsSeldom$")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	const made = 64 << 20
	ballast := setGarbage()
	runtime.GC()
	before := collections()
	for range made / 4096 {
		garbage = make([]byte, 4096)
	}
	if got, most := collections()-before, uint32(made/(gcBallast*gcPercent/100)); got > most {
		t.Errorf("%d collections for %d MiB of garbage, at most %d are right", got, made>>20, most)
	}
	// The first and the last page may have something else, too.
	if got := present(t, ballast); got > 2 {
		t.Errorf("%d pages of the ballast are in memory", got)
	}
	runtime.KeepAlive(ballast)
}

func collections() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

// present counts the pages of a slice that are in memory, by /proc/self/pagemap (proc(5)): eight bytes for each page, of which the last bit says it.
func present(t *testing.T, of []byte) (n int) {
	t.Helper()
	pages, err := os.Open("/proc/self/pagemap")
	if err != nil {
		t.Fatal(err)
	}
	defer pages.Close()
	size := uintptr(os.Getpagesize())
	first := uintptr(unsafe.Pointer(unsafe.SliceData(of))) / size
	entries := make([]byte, 8*(len(of)/int(size)))
	if _, err := pages.ReadAt(entries, int64(8*first)); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(entries); i += 8 {
		if binary.NativeEndian.Uint64(entries[i:])>>63 == 1 {
			n++
		}
	}
	return n
}
