package scale

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// userHZ is the unit of times in /proc/PID/stat (proc(5)), on all of Go's Linux ports.
const userHZ = 100

// cpuOf is the time that a process has run, in user and kernel mode.
func (h *host) cpuOf(pid int) time.Duration {
	h.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		h.T.Fatalf("a process's time: %v", err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])) // from the third on
	var ticks int64
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			h.T.Fatalf("a process's time: %v", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / userHZ
}

func (h *host) agentCPU() time.Duration { return h.cpuOf(h.proc.Pid()) }

// switchCPU is ovs-vswitchd's.
func (h *host) switchCPU() time.Duration {
	h.T.Helper()
	text, err := os.ReadFile(h.OVS.RunDir + "/ovs-vswitchd.pid")
	if err != nil {
		h.T.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		h.T.Fatal(err)
	}
	return h.cpuOf(pid)
}

// resident is the agent's memory in MiB, now and the most there ever was (proc(5), VmRSS and VmHWM).
func (h *host) resident() (now, most float64) {
	h.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.proc.Pid()))
	if err != nil {
		h.T.Fatalf("the agent's memory: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch {
		case err != nil:
		case name == "VmRSS":
			now = kib / 1024
		case name == "VmHWM":
			most = kib / 1024
		}
	}
	return now, most
}
